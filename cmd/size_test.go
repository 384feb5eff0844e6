package cmd

import "testing"

func TestSizes(t *testing.T) {
	for text, want := range map[string]int64{
		"0": 0, "17": 17, "17B": 17, "4KiB": 4096, "4K": 4096, "64MiB": 64 << 20, " 64 M ": 64 << 20, "3GiB": 3 << 30, "1T": 1 << 40,
	} {
		if got, err := parseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "M", "-1", "-1M", "1.5G", "64MB", "64m", "1e3", "9999999999G", "+", "0x10"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1: "1", 4096: "4KiB", 64 << 20: "64MiB", 64<<20 + 1: "67108865", 1 << 40: "1TiB"} {
		got := sizeText(n)
		if back, err := parseSize(got); got != want || back != n || err != nil {
			t.Errorf("%d: %q, back %d, %v", n, got, back, err)
		}
	}
}
