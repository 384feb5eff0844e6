package api

import (
	"net/http/httptest"
	"net/netip"
	"testing"
)

func TestForwardedAddressesCountOnlyFromTrustedProxies(t *testing.T) {
	f := newFixture(t)
	proxies := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48")}
	for _, c := range []struct {
		what, peer string
		forwarded  []string
		proxies    []netip.Prefix
		want       string
	}{
		{"no proxy is trusted", "10.0.0.1:5", []string{"127.0.0.1"}, nil, "10.0.0.1"},
		{"a stranger speaks for another", "192.0.2.1:5", []string{"127.0.0.1"}, proxies, "192.0.2.1"},
		{"a proxy speaks for a caller", "10.0.0.1:5", []string{"192.0.2.7"}, proxies, "192.0.2.7"},
		{"what the caller wrote itself stands first", "10.0.0.1:5", []string{"127.0.0.1, 192.0.2.7"}, proxies, "192.0.2.7"},
		{"two header lines are one list", "10.0.0.1:5", []string{"127.0.0.1", "192.0.2.7"}, proxies, "192.0.2.7"},
		{"through two proxies", "10.0.0.1:5", []string{"127.0.0.1, 192.0.2.7, 10.9.9.9"}, proxies, "192.0.2.7"},
		{"proxies alone", "10.0.0.1:5", []string{"10.9.9.9"}, proxies, "10.9.9.9"},
		{"a port and brackets", "10.0.0.1:5", []string{"[2001:db8::7]:443"}, proxies, "2001:db8::7"},
		{"mapped", "[::ffff:10.0.0.1]:5", []string{"::ffff:192.0.2.7"}, proxies, "192.0.2.7"},
		{"a proxy of IPv6", "[2001:db8:1::1]:5", []string{"192.0.2.7"}, proxies, "192.0.2.7"},
		{"no address", "10.0.0.1:5", []string{"192.0.2.7, unknown"}, proxies, "10.0.0.1"},
		{"no header", "10.0.0.1:5", nil, proxies, "10.0.0.1"},
	} {
		f.server.cfg.TrustedProxies = c.proxies
		req := httptest.NewRequest("GET", "/v1/status", nil)
		req.RemoteAddr, req.Header["X-Forwarded-For"] = c.peer, c.forwarded
		if got := f.server.callerOf(req); got != netip.MustParseAddr(c.want) {
			t.Errorf("%s: %s, want %s", c.what, got, c.want)
		}
	}
}

// TestGuardIsKeyedByTheSocket: a flood that invents addresses pays from one budget.
func TestGuardIsKeyedByTheSocket(t *testing.T) {
	f := newFixture(t)
	limited := 0
	for i := range guardBurst + 10 {
		rec := f.do(ask{method: "GET", path: "/v1/status", token: "x", from: "192.0.2.1:9",
			header: map[string]string{"X-Forwarded-For": netip.AddrFrom4([4]byte{198, 51, byte(i >> 8), byte(i)}).String()}})
		if rec.Code == 429 {
			limited++
		}
	}
	if limited != 10 || f.server.guard.all.Size() != 1 {
		t.Errorf("%d refused, %d addresses remembered", limited, f.server.guard.all.Size())
	}
}

func FuzzForwarded(f *testing.F) {
	server := &Server{cfg: Config{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}}
	f.Add("192.0.2.7, 10.0.0.2")
	f.Add("[::1%eth0]:1,,")
	f.Fuzz(func(t *testing.T, text string) {
		req := httptest.NewRequest("GET", "/", nil)
		req.RemoteAddr, req.Header["X-Forwarded-For"] = "10.0.0.1:1", []string{text}
		if got := server.callerOf(req); !got.IsValid() || got.Zone() != "" {
			t.Errorf("%q: %v", text, got)
		}
	})
}
