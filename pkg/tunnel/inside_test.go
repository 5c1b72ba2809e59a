package tunnel_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/tunnel"
)

// The only request that leaves is that for the token, with the name as its Host. What
// comes back is a key authorization or nothing (X27).
func TestFetch(t *testing.T) {
	t.Parallel()
	answer := token + "." + thumbprint
	var requests atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		want := fmt.Sprintf("GET /.well-known/acme-challenge/%s of %s", token, name)
		if got := r.Method + " " + r.RequestURI + " of " + r.Host; got != want {
			t.Errorf("%s, want %s", got, want)
		}
		fmt.Fprint(w, answer+"\r\n")
	}))
	defer server.Close()
	address := strings.TrimPrefix(server.URL, "http://")
	inside := tunnel.NewInside(map[string]string{name: address})
	if got, err := inside.Fetch(t.Context(), tunnel.Question{Name: name, Token: token}); err != nil || got != answer {
		t.Errorf("%q, %v", got, err)
	}
	for _, q := range []tunnel.Question{
		{Name: "www.example.com", Token: token}, {Name: "", Token: token}, {Name: strings.ToUpper(name), Token: token},
		{Name: name}, {Name: name, Token: "../../admin"}, {Name: name, Token: token + "?x"}, {Name: name, Token: "%2e%2e"},
		{Name: name, Token: "a b"}, {Name: name, Token: strings.Repeat("a", 256)}, {Name: name, Token: token + "\r\nX: y"},
	} {
		if _, err := inside.Fetch(t.Context(), q); !errors.Is(err, tunnel.ErrForeign) {
			t.Errorf("%+v: %v", q, err)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// A server that has no answer, or another one, gets nothing through. The error names it.
func TestFetchRefused(t *testing.T) {
	t.Parallel()
	secret := "secret of the inner server"
	for what, handler := range map[string]http.HandlerFunc{
		"not found": http.NotFound,
		"a page":    func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "<html>"+secret) },
		"the token": func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, token) },
		"more":      func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, token+"."+thumbprint+" "+secret) },
		"a long text": func(w http.ResponseWriter, _ *http.Request) {
			fmt.Fprint(w, token+"."+thumbprint+strings.Repeat("\n", 4096)+"x")
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/"+secret, http.StatusFound) },
		"large fields": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X", strings.Repeat(secret, 4096))
			fmt.Fprint(w, token+"."+thumbprint)
		},
		"nothing": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		server := httptest.NewServer(handler)
		address := strings.TrimPrefix(server.URL, "http://")
		got, err := tunnel.NewInside(map[string]string{name: address}).Fetch(t.Context(), tunnel.Question{Name: name, Token: token})
		if got != "" || err == nil || !strings.Contains(err.Error(), address) && what != "nothing" || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %q, %v", what, got, err)
		}
		server.Close()
	}
	closed := httptest.NewServer(nil)
	closed.Close()
	address := strings.TrimPrefix(closed.URL, "http://")
	if _, err := tunnel.NewInside(map[string]string{name: address}).Fetch(t.Context(), tunnel.Question{Name: name, Token: token}); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("no server: %v", err)
	}
}
