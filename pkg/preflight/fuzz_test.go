package preflight

import (
	"net"
	"strconv"
	"testing"
)

// What is taken for a resolver can be dialled, and reads as the same again.
func FuzzParseResolver(f *testing.F) {
	for _, s := range []string{"9.9.9.9", "9.9.9.9:53", "[2620:fe::fe]:53", "2620:fe::fe", "dns.example", "dns.example:5353", ":53", "[::1", "a:b:c", "::1%lo"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := ParseResolver(s)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(got)
		if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || host == "" || n < 1 || n > 65535 {
			t.Errorf("%q is taken for %q", s, got)
		}
		if again, err := ParseResolver(got); err != nil || again != got {
			t.Errorf("%q becomes %q and then %q, %v", s, got, again, err)
		}
	})
}
