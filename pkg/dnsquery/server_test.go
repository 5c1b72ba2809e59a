package dnsquery_test

import (
	"net"
	"strconv"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

func TestParseServer(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"9.9.9.9": "9.9.9.9:53", "9.9.9.9:5353": "9.9.9.9:5353", "dns.example.com": "dns.example.com:53",
		"2620:fe::fe": "[2620:fe::fe]:53", "[2620:fe::fe]": "[2620:fe::fe]:53", "[2620:fe::fe]:5353": "[2620:fe::fe]:5353",
		"": "", ":53": "", "9.9.9.9:0": "", "9.9.9.9:dns": "", "9.9.9.9:70000": "", "a:b:c": "", "https://dns.example.com/": "",
		"[9.9.9.9]": "9.9.9.9:53", "[dns.example.com]:53": "", "[::1": "", "fe80::1%eth0": "[fe80::1%eth0]:53", "::%]": "",
	} {
		got, err := dnsquery.ParseServer(in)
		if got != want || (err != nil) != (want == "") {
			t.Errorf("%q: %q, %v; want %q", in, got, err, want)
		}
	}
}

// What is taken for a server can be dialled, and reads as the same again.
func FuzzParseServer(f *testing.F) {
	for _, s := range []string{"9.9.9.9", "9.9.9.9:53", "[2620:fe::fe]:53", "2620:fe::fe", "dns.example", "dns.example:5353", ":53", "[::1", "a:b:c", "::1%lo", "::%]", "[::1%lo]:53"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := dnsquery.ParseServer(s)
		if err != nil {
			return
		}
		host, port, err := net.SplitHostPort(got)
		if n, numErr := strconv.Atoi(port); err != nil || numErr != nil || host == "" || n < 1 || n > 65535 {
			t.Errorf("%q is taken for %q", s, got)
		}
		if again, err := dnsquery.ParseServer(got); err != nil || again != got {
			t.Errorf("%q becomes %q and then %q, %v", s, got, again, err)
		}
	})
}
