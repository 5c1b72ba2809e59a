package acmeserver_test

import (
	"bytes"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C2: the directory has all URLs, and meta has what clients look for.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) {
		c.Website = "https://example.com/?a&b"
		c.CAAIdentities = []string{"example.com"}
		c.Profiles = map[string]string{"short": "six days"}
		c.Accounts = &rules{requires: func(entrance string) (bool, error) {
			switch entrance {
			case "":
				return true, nil
			case "hunter2":
				return false, nil
			}
			return false, acmeserver.ErrNotFound
		}}
	})
	c := newRaw(t, s)
	urls := map[string]string{
		"newNonce": "/new-nonce", "newAccount": "/new-account", "newOrder": "/new-order",
		"revokeCert": "/revoke-cert", "keyChange": "/key-change", "renewalInfo": "/renewal-info",
	}
	for at, required := range map[string]bool{"": true, "/at/hunter2": false} {
		r := c.get(at + "/directory").want(http.StatusOK)
		if got := r.link("index"); got != baseURL+at+"/directory" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("index link %q, header %v", got, r.header)
		}
		if bytes.Contains(r.body, []byte(`\u0026`)) {
			t.Errorf("escaped for HTML: %s", r.body)
		}
		d := r.object()
		m := d["meta"].(object)
		delete(d, "meta")
		if keys := slices.Sorted(maps.Keys(d)); !slices.Equal(keys, slices.Sorted(maps.Keys(urls))) {
			t.Errorf("the directory has %v", keys)
		}
		for name, path := range urls {
			if name == "newAccount" || name == "newNonce" {
				path = at + path
			}
			if d[name] != baseURL+path {
				t.Errorf("%s is %v", name, d[name])
			}
		}
		if m["externalAccountRequired"] != required || m["website"] != "https://example.com/?a&b" ||
			m["termsOfService"] != baseURL+"/terms" || m["profiles"].(object)["short"] != "six days" ||
			!slices.Equal(m["caaIdentities"].([]any), []any{"example.com"}) {
			t.Errorf("meta: %v", m)
		}
	}
	c.do(http.MethodHead, baseURL+"/directory", nil).want(http.StatusOK)
	c.get("/at/hunter3/directory").refused(acme.Malformed, http.StatusNotFound)
	terms := c.get("/terms").want(http.StatusOK)
	if kind := terms.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") || len(terms.body) == 0 {
		t.Errorf("terms: %s %q", kind, terms.body)
	}
	other := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Terms = "https://example.com/terms" }))
	m := other.get("/directory").object()["meta"].(object)
	if m["termsOfService"] != "https://example.com/terms" || m["website"] != nil || m["profiles"] != nil {
		t.Errorf("meta: %v", m)
	}
	other.get("/terms").refused(acme.Malformed, http.StatusNotFound)
}

// C2, RFC 8555, section 6.3: POST-as-GET reads what GET reads.
func TestPostAsGet(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	for path, status := range map[string]int{
		"/directory": http.StatusOK, "": http.StatusOK, "/terms": http.StatusOK, "/new-nonce": http.StatusNoContent,
	} {
		want := c.get(path).want(status)
		if got := c.post(baseURL+path, nil).want(status); string(got.body) != string(want.body) {
			t.Errorf("%s: %s", path, got.body)
		}
		c.post(baseURL+path, object{}).refused(acme.Malformed, http.StatusBadRequest)
	}
}

// C2: HEAD of the real thing has no body, and the same header as GET.
func TestHead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newServer(t, func(c *acmeserver.Config) { c.URL = "http://127.0.0.1" }))
	defer server.Close()
	for path, status := range map[string]int{"/directory": 200, "/new-nonce": 200, "/nothing": 404, "/new-order": 405} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(body) > 0 || resp.StatusCode != status || resp.Header.Get("Replay-Nonce") == "" ||
			resp.Header.Get("Link") != `<http://127.0.0.1/directory>;rel="index"` {
			t.Errorf("%s: %d %q %v %v", path, resp.StatusCode, body, resp.Header, err)
		}
	}
}
