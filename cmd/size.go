package cmd

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// sizeUnits are the units of sizes, all powers of two, largest first. K, M, G
// and T mean the same as KiB, MiB, GiB and TiB.
var sizeUnits = []struct {
	name  string
	shift uint
}{{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}, {"B", 0}}

// parseSize reads a number of bytes such as 0, 65536, 64MiB or 64M.
func parseSize(text string) (int64, error) {
	digits, shift := strings.TrimSpace(text), uint(0)
	for _, u := range sizeUnits {
		short := strings.TrimSuffix(u.name, "iB")
		rest, ok := strings.CutSuffix(digits, u.name)
		if !ok {
			rest, ok = strings.CutSuffix(digits, short)
		}
		if ok {
			digits, shift = strings.TrimSpace(rest), u.shift
			break
		}
	}
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n < 0 || n > math.MaxInt64>>shift {
		return 0, fmt.Errorf("%q is no size: want a number of bytes, or one such as 64MiB", text)
	}
	return n << shift, nil
}

// sizeText writes a size as parseSize reads it.
func sizeText(n int64) string {
	for _, u := range sizeUnits {
		if n != 0 && u.shift > 0 && n%(1<<u.shift) == 0 {
			return strconv.FormatInt(n>>u.shift, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10)
}
