package envproxy_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// An invalid proxy is an error that names the variable and no secret. net/http would
// connect directly.
func TestCheck(t *testing.T) {
	for _, tc := range []struct {
		name, value string
		good        bool
	}{
		{"HTTPS_PROXY", "http://proxy.example.com:3128", true},
		{"HTTPS_PROXY", "http://user:needle@proxy.example.com:3128/", true},
		{"HTTPS_PROXY", "proxy.example.com:3128", true},
		{"HTTPS_PROXY", "proxy", true},
		{"HTTPS_PROXY", "192.0.2.1:3128", true},
		{"https_proxy", "socks5h://[2001:db8::1]:1080", true},
		{"HTTP_PROXY", "https://proxy.example.com", true},
		{"HTTPS_PROXY", "http://user:needle@proxy.example.com:port", false},
		{"HTTPS_PROXY", "http://user:nee%dle@proxy.example.com", false},
		{"HTTPS_PROXY", "http://user:needle^|@ proxy", false},
		{"HTTPS_PROXY", "http:/needle:3128", false},
		{"HTTPS_PROXY", "http://", false},
		{"HTTPS_PROXY", "://needle", false},
		{"HTTPS_PROXY", "proxy.example.com:99999", false},
		{"HTTPS_PROXY", "ftp://needle:21", false},
		{"https_proxy", "http://needle:", false},
		{"http_proxy", "http://[needle", false},
		{"HTTP_PROXY", " ", false},
		{"NO_PROXY", "localhost, .example.com,192.0.2.0/24,*,[2001:db8::1]:443,", true},
		{"NO_PROXY", "/var/run/docker.sock,localhost 127.0.0.1", true}, // as others write it
	} {
		t.Run(tc.name+"="+tc.value, func(t *testing.T) {
			for _, name := range []string{"HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY"} {
				t.Setenv(name, "")
				t.Setenv(strings.ToLower(name), "")
			}
			t.Setenv(tc.name, tc.value)
			err := envproxy.Check(os.Getenv, envproxy.HTTPS, envproxy.HTTP)
			if (err == nil) != tc.good {
				t.Fatalf("error %v, want good %v", err, tc.good)
			}
			if err == nil {
				return
			}
			if !strings.HasPrefix(err.Error(), tc.name+": ") || strings.Contains(err.Error(), "needle") {
				t.Errorf("error %v", err)
			}
			if strings.EqualFold(tc.name, envproxy.HTTP) {
				return // it is not for https://
			}
			if _, err := envproxy.Func(os.Getenv)(httptest.NewRequest(http.MethodGet, "https://ca.example/", nil)); err == nil {
				t.Error("a request would go out all the same")
			}
		})
	}
}
