package acmeserver_test

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// serve sends a request without a body and without checks of the answer.
func serve(t *testing.T, h http.Handler, method, url string) *reply {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, url, http.NoBody))
	return &reply{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// C5: what does not exist, and a wrong method, are problem documents with a nonce. No
// request is redirected, because it is signed for one URL.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	for _, path := range []string{
		"/nothing", "/new-nonce/", "//directory", "/a/../directory", "/./directory", "/account", "/account/",
		"/at/x", "/at//directory", "/at/x/nothing", "/order/", "/%2e%2e/directory", "/directory/x",
	} {
		c.get(path).refused(acme.Malformed, http.StatusNotFound)
		c.do(http.MethodPost, baseURL+path, []byte("{}")).refused(acme.Malformed, http.StatusNotFound)
	}
	for path, allowed := range map[string]string{
		"/new-account": "POST", "/at/x/new-account": "POST", "/new-order": "POST", "/revoke-cert": "POST",
		"/key-change": "POST", "/account/x": "POST", "/account/x/orders": "POST", "/order/x": "POST",
		"/order/x/finalize": "POST", "/authorization/x/0": "POST", "/challenge/x/0/http-01": "POST",
		"/certificate/x": "POST", "/certificate/x/1": "POST",
		"": "GET, HEAD, POST", "/": "GET, HEAD, POST", "/directory": "GET, HEAD, POST",
		"/new-nonce": "GET, HEAD, POST", "/terms": "GET, HEAD, POST", "/renewal-info/x": "GET, HEAD",
		"/at/x/directory": "GET, HEAD, POST", "/at/x/new-nonce": "GET, HEAD, POST",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, "CÜRL\n"} {
			if strings.Contains(allowed, method) {
				continue
			}
			r := do(c, method, baseURL+path)
			r.refused(acme.Malformed, http.StatusMethodNotAllowed)
			if got := r.header.Get("Allow"); got != allowed {
				t.Errorf("%s %s: Allow is %q", method, path, got)
			}
		}
	}
}

// do sends a request with any method.
func do(c *raw, method, url string) *reply {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, url, http.NoBody)
	req.Method = method
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, req)
	return &reply{t: c.t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// C1: a server works at each base of a mux, two of them in one process.
func TestBases(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"https://ca.example.com", "https://ca.example.com/", "https://ca.example.com/acme/",
		"http://localhost:8000/a/b%20c", "https://[2001:db8::1]/ca",
	} {
		s := newServer(t, func(c *acmeserver.Config) { c.URL = base })
		mux := http.NewServeMux()
		mux.Handle("/", s)
		plain := strings.TrimSuffix(base, "/")
		for _, path := range []string{"", "/", "/directory"} {
			if plain+path == "https://ca.example.com" {
				continue // clients send the path /
			}
			d := serve(t, mux, http.MethodGet, plain+path).want(http.StatusOK).object()
			if d["newOrder"] != plain+"/new-order" {
				t.Errorf("%s%s: newOrder is %v", base, path, d["newOrder"])
			}
		}
		c := newRaw(t, mux)
		c.nonce = serve(t, mux, http.MethodHead, plain+"/new-nonce").header.Get("Replay-Nonce")
		r := c.post(plain+"/new-account", object{}).want(http.StatusCreated)
		c.kid = r.header.Get("Location")
		c.post(c.kid, nil).want(http.StatusOK)
	}
	first := newServer(t, nil)
	second := newServer(t, func(c *acmeserver.Config) { c.URL = "https://ca.example.com/other" })
	mux := http.NewServeMux()
	mux.Handle("/acme/", first)
	mux.Handle("/other/", second)
	c := newRaw(t, mux)
	c.register(nil).want(http.StatusCreated)
	c.nonce = serve(t, mux, http.MethodHead, "https://ca.example.com/other/new-nonce").header.Get("Replay-Nonce")
	c.post("https://ca.example.com/other/new-order", object{}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
}

// C1: New names the fault of a URL.
func TestNewRefusesURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{
		"", "ca.example.com/acme", "ftp://ca.example.com", "https:///acme", "https://ca.example.com/?a",
		"https://ca.example.com/#a", "https://ca.example.com//acme", "https://ca.example.com/a/../b",
		"https://user@ca.example.com/", "https://ca.example.com/acme//", "%",
	} {
		_, err := acmeserver.New(acmeserver.Config{URL: u, Storage: acmeserver.NewMemory(), Issuer: noIssuer{}})
		if err == nil || !strings.Contains(err.Error(), "URL") {
			t.Errorf("%q: %v", u, err)
		}
	}
	_, err := acmeserver.New(acmeserver.Config{URL: baseURL, Issuer: noIssuer{}})
	_, err2 := acmeserver.New(acmeserver.Config{URL: baseURL, Storage: acmeserver.NewMemory()})
	if err == nil || err2 == nil {
		t.Error("a configuration without storage or issuer is accepted")
	}
}

// C4: a body that is too large, or of another content type, is refused.
func TestRequestForm(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) { c.Limits.Body = 1000 })
	c := newRaw(t, s)
	url := baseURL + "/new-account"
	c.do(http.MethodPost, url, bytes.Repeat([]byte(" "), 1001)).refused(acme.Malformed, http.StatusRequestEntityTooLarge)
	for kind, status := range map[string]int{
		"": http.StatusUnsupportedMediaType, "application/json": http.StatusUnsupportedMediaType,
		"application/jose+json; charset=utf-8": http.StatusCreated, "Application/JOSE+JSON": http.StatusOK,
	} {
		t.Run(kind, func(t *testing.T) {
			c.get("/new-nonce")
			body := signed(c.key, c.protected(url), object{})
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
			req.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code != status && (status >= 300 || w.Code >= 300) {
				t.Errorf("%d instead of %d: %s", w.Code, status, w.Body)
			}
		})
	}
}

// C5: a client that sends without an end reads 413, and its connection ends.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newServer(t, func(c *acmeserver.Config) { c.URL = "http://127.0.0.1" }))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/new-order", endless{})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jose+json")
	resp, err := server.Client().Do(req)
	if err != nil {
		return // the connection ended before the client read the answer
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }
