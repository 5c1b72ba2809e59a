package envproxy

import (
	"net/url"
	"testing"

	"golang.org/x/net/http/httpproxy"
)

// A value that isProxy accepts is a proxy for net/http too. Otherwise, net/http would
// connect directly.
func FuzzIsProxy(f *testing.F) {
	for _, s := range []string{
		"http://proxy.example.com:3128", "http://user:needle@proxy.example.com/", "proxy.example.com:3128", "proxy", "192.0.2.1:3128",
		"socks5h://[2001:db8::1]:1080", "http://[::1", "http:/needle:3128", "://x", "ftp://x:21", " ", "proxy.example.com:99999", "a%zz:1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if !isProxy(s) {
			return
		}
		cfg := httpproxy.Config{HTTPSProxy: s}
		if proxy, err := cfg.ProxyFunc()(&url.URL{Scheme: "https", Host: "ca.example"}); proxy == nil || err != nil {
			t.Errorf("%q is taken for a proxy, and net/http connects directly: %v, %v", s, proxy, err)
		}
	})
}
