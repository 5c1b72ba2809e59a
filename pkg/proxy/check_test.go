package proxy_test

import (
	"net/netip"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// A client's check connects to an address of this host outside the Internet only where
// the proxy itself listens: other servers there may be for internal networks alone.
func TestIsOwn(t *testing.T) { // X13
	t.Parallel()
	addr := func(s string) netip.Addr {
		if s == "" {
			return netip.Addr{}
		}
		return netip.MustParseAddr(s)
	}
	interfaces := []netip.Addr{addr("127.0.0.1"), addr("10.0.0.5"), addr("8.8.4.4"), addr("2a00:1450::1")}
	for _, c := range []struct {
		listening, addr string
		want            bool
	}{
		{"0.0.0.0", "10.0.0.5", true},
		{"::", "10.0.0.5", true},
		{"::", "127.0.0.2", true}, // all loopback addresses are this host's
		{"0.0.0.0", "10.0.0.6", false},
		{"0.0.0.0", "8.8.8.8", false},
		{"10.0.0.5", "10.0.0.5", true},
		{"10.0.0.5", "127.0.0.1", false},
		{"8.8.4.4", "10.0.0.5", false},
		{"8.8.4.4", "8.8.4.4", true},
		{"", "10.0.0.5", false},
		{"", "127.0.0.1", false},
		{"", "2a00:1450::1", true}, // a CA reaches it as well
	} {
		if got := proxy.IsOwn(addr(c.addr), interfaces, addr(c.listening)); got != c.want {
			t.Errorf("%s, listening at %q: %v", c.addr, c.listening, got)
		}
	}
}
