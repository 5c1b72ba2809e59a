package fallback_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

const (
	token   = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	keyAuth = token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
)

// challenges returns a responder with one token for www.example.com.
func challenges() *responder.Responder {
	r := responder.New()
	r.Put("www.example.com", token, keyAuth)
	return r
}

// serve serves h like port 80.
func serve(t testing.TB, h http.Handler) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.DisableGeneralOptionsHandler = true
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// ask sends a request unchanged. request lacks the last empty line.
func ask(t testing.TB, addr, request string) (*http.Response, string) {
	t.Helper()
	return rawhttp.Ask(t, addr, strings.ReplaceAll(request, "\n", "\r\n")+"\r\nConnection: close\r\n\r\n")
}

// Redirects lead to the same host and path at https://.
func TestRedirect(t *testing.T) {
	addr := serve(t, fallback.Redirect(challenges()))
	for _, test := range []struct {
		request string
		status  int
		want    string
	}{
		{"GET / HTTP/1.1\nHost: www.example.com", 301, "https://www.example.com/"},
		{"HEAD /a HTTP/1.1\nHost: www.example.com", 301, "https://www.example.com/a"},
		{"POST /a HTTP/1.1\nHost: www.example.com", 308, "https://www.example.com/a"},
		{"OPTIONS /a HTTP/1.1\nHost: www.example.com", 308, "https://www.example.com/a"},
		{"GET /a/b?c=d&e=%20 HTTP/1.1\nHost: WWW.Example.com:80", 301, "https://www.example.com/a/b?c=d&e=%20"},
		{"GET /a%2Fb%0d%0aX:y HTTP/1.1\nHost: www.example.com:8080", 301, "https://www.example.com/a%2Fb%0d%0aX:y"},
		{"GET //evil.example HTTP/1.1\nHost: www.example.com", 301, "https://www.example.com//evil.example"},
		{"GET /\\evil.example HTTP/1.1\nHost: www.example.com", 301, "https://www.example.com/%5Cevil.example"},
		{"GET /?q=<\"é\\> HTTP/1.1\nHost: www.example.com", 301, "https://www.example.com/?q=%3C%22%C3%A9%5C%3E"},
		{"GET /.well-known/security.txt HTTP/1.1\nHost: localhost", 301, "https://localhost/.well-known/security.txt"},
		{"GET / HTTP/1.1\nHost: 192.0.2.1:80", 301, "https://192.0.2.1/"},
		{"GET / HTTP/1.1\nHost: [2001:DB8::1]:80", 301, "https://[2001:db8::1]/"},
		{"GET / HTTP/1.1\nHost: [2001:db8::1]", 301, "https://[2001:db8::1]/"},
		{"GET / HTTP/1.1\nHost: my_host.example.com.", 301, "https://my_host.example.com./"},
		{"GET / HTTP/1.1\nHost: www.example.com\nX-Forwarded-Host: evil.example\nForwarded: host=evil.example", 301, "https://www.example.com/"},
	} {
		resp, body := ask(t, addr, test.request)
		if got := resp.Header.Get("Location"); resp.StatusCode != test.status || got != test.want || body != "" {
			t.Errorf("%q: %d %q %q, want %d %q", test.request, resp.StatusCode, got, body, test.status, test.want)
		}
	}
}

// Invalid hosts get no redirect, and no body repeats a request.
func TestMalformed(t *testing.T) {
	backend := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		t.Errorf("passed on: %s %s%s", r.Method, r.Host, r.URL)
	}))
	for name, h := range map[string]http.Handler{
		"redirect": fallback.Redirect(challenges()),
		"backend":  fallback.Backend(challenges(), fallback.BackendConfig{Target: &url.URL{Scheme: "http", Host: backend}, Logger: slog.New(slog.DiscardHandler)}),
	} {
		addr := serve(t, h)
		for _, request := range []string{
			"GET /MaRk HTTP/1.1\nHost: ",
			"GET /MaRk HTTP/1.0\nX: y",
			"GET /MaRk HTTP/1.1\nHost: www.example.com@evil.example",
			"GET /MaRk HTTP/1.1\nHost: evil.example/MaRk",
			"GET /MaRk HTTP/1.1\nHost: evil.example?MaRk",
			"GET /MaRk HTTP/1.1\nHost: evil.example#MaRk",
			"GET /MaRk HTTP/1.1\nHost: evil.example\\MaRk",
			"GET /MaRk HTTP/1.1\nHost: evil.example:80MaRk",
			"GET /MaRk HTTP/1.1\nHost: evil.example:808080",
			"GET /MaRk HTTP/1.1\nHost: evil..example",
			"GET /MaRk HTTP/1.1\nHost: -evil.example",
			"GET /MaRk HTTP/1.1\nHost: " + strings.Repeat("a", 64) + ".example",
			"GET /MaRk HTTP/1.1\nHost: " + strings.Repeat("a.", 127) + "a",
			"GET /MaRk HTTP/1.1\nHost: %65vil.example",
			"GET /MaRk HTTP/1.1\nHost: évil.example",
			"GET /MaRk HTTP/1.1\nHost: [evil.example]",
			"GET /MaRk HTTP/1.1\nHost: [192.0.2.1]",
			"GET /MaRk HTTP/1.1\nHost: [fe80::1%25eth0]",
			"GET /MaRk HTTP/1.1\nHost: [2001:db8::1]MaRk",
			"GET /MaRk HTTP/1.1\nHost: 2001:db8::1",
			"OPTIONS * HTTP/1.1\nHost: www.example.com",
			"CONNECT evil.example:443 HTTP/1.1\nHost: evil.example:443",
			"GET http:MaRk HTTP/1.1\nHost: www.example.com",
		} {
			resp, body := ask(t, addr, request)
			if resp.StatusCode != http.StatusBadRequest || resp.Header.Get("Location") != "" || strings.Contains(strings.ToLower(body), "mark") || strings.Contains(body, "evil") {
				t.Errorf("%s: %q: %d %q %q", name, request, resp.StatusCode, resp.Header.Get("Location"), body)
			}
		}
	}
}

// Challenges are answered. Unknown ones are neither redirected nor forwarded, in any
// spelling, because a server that answers them could obtain a certificate (A2, A3).
func TestChallengesStay(t *testing.T) {
	passed := make(chan string, 100)
	backend := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		passed <- r.URL.Path
		io.WriteString(w, keyAuth)
	}))
	for name, h := range map[string]http.Handler{
		"redirect": fallback.Redirect(challenges()),
		"backend":  fallback.Backend(challenges(), fallback.BackendConfig{Target: &url.URL{Scheme: "http", Host: backend}, Logger: slog.New(slog.DiscardHandler)}),
	} {
		addr := serve(t, h)
		for _, host := range []string{"www.example.com", "WWW.example.com:80"} {
			if resp, body := ask(t, addr, "GET "+responder.Prefix+token+" HTTP/1.1\nHost: "+host); resp.StatusCode != http.StatusOK || body != keyAuth {
				t.Errorf("%s: a known token: %d %q", name, resp.StatusCode, body)
			}
		}
		for _, request := range []string{
			"GET /.well-known/acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET /.well-known/acme-challenge/" + token + " HTTP/1.1\nHost: other.example.com",
			"GET /.well-known/acme-challenge/" + token + " HTTP/1.1\nHost: other.example.com\nX-Forwarded-Host: www.example.com",
			"POST /.well-known/acme-challenge/" + token + " HTTP/1.1\nHost: www.example.com",
			"GET /.well-known/acme-challenge/ HTTP/1.1\nHost: www.example.com",
			"GET /.well-known/acme-challenge HTTP/1.1\nHost: www.example.com",
			"GET /%2ewell-known/acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET /.well-known%2Facme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET //.well-known/./acme-challenge//unknown HTTP/1.1\nHost: www.example.com",
			"GET /x/../.well-known/acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET /x/%2e%2e/.well-known/acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET /.well-known\\acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET /.Well-Known/ACME-challenge/unknown HTTP/1.1\nHost: www.example.com",
			"GET http://www.example.com/.well-known/acme-challenge/unknown HTTP/1.1\nHost: www.example.com",
		} {
			if resp, body := ask(t, addr, request); resp.StatusCode != http.StatusNotFound || body != "not found\n" {
				t.Errorf("%s: %q: %d %q", name, request, resp.StatusCode, body)
			}
		}
		if len(passed) > 0 {
			t.Errorf("%s: %s was passed on", name, <-passed)
		}
	}
}

// FuzzRedirect checks that a Location has the requested host, or is missing.
func FuzzRedirect(f *testing.F) {
	for _, seed := range []struct{ host, target string }{
		{"www.example.com", "/"}, {"[2001:db8::1]:80", "/a?b=c"}, {"a@b", "//c"}, {"a:1", "/\\b"}, {"192.0.2.1", "/%0d%0a?\r\n"},
	} {
		f.Add(seed.host, seed.target)
	}
	h := fallback.Redirect(challenges())
	f.Fuzz(func(t *testing.T, host, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return // a web server refuses it before the handler
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, &http.Request{Method: http.MethodGet, Host: host, URL: u, Header: http.Header{}})
		location := w.Header().Get("Location")
		if location == "" {
			return
		}
		got, err := url.Parse(location)
		if err != nil || got.Scheme != "https" || got.User != nil || got.Port() != "" || strings.ContainsAny(location, "\r\n \\") {
			t.Fatalf("host %q, target %q: Location %q, %v", host, target, location, err)
		}
		if name, _, _ := strings.Cut(strings.ToLower(host), ":"); !strings.HasPrefix(host, "[") && got.Hostname() != name {
			t.Fatalf("host %q: Location %q", host, location)
		}
		if w.Body.Len() != 0 {
			t.Fatalf("body %q", w.Body)
		}
	})
}

// lines returns the number of lines of a log that is complete.
func lines(log *bytes.Buffer) int { return strings.Count(fmt.Sprint(log), "\n") }
