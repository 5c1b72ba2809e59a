package issuer_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// URLs may be relative everywhere (RFC 3986), the directory may have moved,
// and chains come with a byte order mark, with CRLF, in one line, or twice.
func TestSloppyCA(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap, AlternateRoots: 1}, nil)
	base := strings.TrimSuffix(e.ca.DirectoryURL, "/dir")
	relative := changeAnswer(func(h http.Header, body []byte) []byte {
		for _, values := range h {
			for i := range values {
				values[i] = strings.ReplaceAll(values[i], base+"/", "/")
			}
		}
		return bytes.ReplaceAll(body, []byte(base+"/"), []byte("/"))
	})
	chain := func(change func([]byte) []byte) override {
		return times(100, pebbletest.Certificate, changeAnswer(func(_ http.Header, body []byte) []byte { return change(body) }))
	}
	replace := func(from, to string) func([]byte) []byte {
		return func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(from), []byte(to)) }
	}
	for name, override := range map[string]override{
		"relative": relative,
		"moved": once(pebbletest.Directory, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			http.Redirect(w, r, "dir?moved", http.StatusMovedPermanently)
			return true
		}),
		"bom":    chain(func(body []byte) []byte { return append([]byte("\xef\xbb\xbf"), body...) }),
		"crlf":   chain(replace("\n", "\r\n")),
		"twice":  chain(func(body []byte) []byte { return append(bytes.Clone(body), body...) }),
		"joined": chain(replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, override)
			is := e.another(t, func(cfg *testConfig) {
				cfg.UserAgent, cfg.PreferredChain, cfg.Accounts = name, e.ca.Issuers[1], &memoryAccounts{}
			})
			b, err := is.Issue(t.Context(), ec(names(t, name+".sloppy.example.com")), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Chain) == 0 || b.Chain[len(b.Chain)-1].Issuer.CommonName != e.ca.Issuers[1] {
				t.Errorf("chain of %d certificates is not the preferred one", len(b.Chain))
			}
			if leaf, err := is.Certificate(t.Context(), "", b.URL); err != nil || leaf.SerialNumber.Cmp(b.Leaf.SerialNumber) != 0 {
				t.Errorf("read again: %v", err)
			}
		})
	}
}

// A CA may send empty dates.
func TestEmptyDates(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, empty := range map[string]any{"empty": "", "blank": " ", "null": nil} {
		t.Run(name, func(t *testing.T) {
			var documents atomic.Int32
			ts.set(name, fields(func(d map[string]any) {
				challenges, _ := d["challenges"].([]any)
				for _, document := range append([]any{d}, challenges...) {
					if m, ok := document.(map[string]any); ok && m["status"] != nil {
						m["expires"], m["validated"], m["notBefore"], m["notAfter"] = empty, empty, empty, empty
						documents.Add(1)
					}
				}
			}))
			is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = name })
			if _, err := is.Issue(t.Context(), ec(names(t, name+".dates.example.com")), nil); err != nil {
				t.Error(err)
			}
			if n := documents.Load(); n < 5 { // order, authorization, challenges
				t.Errorf("only %d documents were changed", n)
			}
		})
	}
}

// If the administrator must open a page, the error contains its URL.
func TestUserActionRequired(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, override := range map[string]override{
		"instance": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms changed.","instance":"https://ca.example/agree?x"}`)
			return true
		},
		"link": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			w.Header().Set("Link", `<https://ca.example/agree?x>;rel="terms-of-service"`)
			return respond(403, "userActionRequired")(w, r, next)
		},
	} {
		ts.set(name, times(100, pebbletest.NewOrder, override))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = name })
		_, err := is.Issue(t.Context(), ec(names(t, "action.example.com")), nil)
		var failed *acme.Error
		if !errors.As(err, &failed) || failed.Kind != acme.Permanent || !strings.Contains(err.Error(), "open https://ca.example/agree?x") {
			t.Errorf("%s: %v, want the URL", name, err)
		}
	}
}

// A changed contact is sent to the CA once. If the CA refuses it, certificates are
// still issued.
func TestChangedEmail(t *testing.T) {
	t.Parallel()
	var ts overrides
	var contact atomic.Value
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, func(cfg *testConfig) { cfg.Email = "old@example.com" })
	issue := func(is *instance) {
		t.Helper()
		if _, err := is.Issue(t.Context(), ec(names(t, "email.example.com")), nil); err != nil {
			t.Fatal(err)
		}
	}
	issue(e.issuer)
	ts.set("refused", times(100, pebbletest.Account, respond(400, "invalidContact")))
	issue(e.another(t, func(cfg *testConfig) { cfg.UserAgent, cfg.Email = "refused", "bad@example.com" }))
	if e.accounts.email != "old@example.com" {
		t.Errorf("contact %q is stored, which the CA refused", e.accounts.email)
	}
	ts.set("new", times(100, pebbletest.Account, fields(func(d map[string]any) { contact.Store(fmt.Sprint(d["contact"])) })))
	for range 2 {
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent, cfg.Email = "new", "new@example.com" })
		e.ca.Requests().Reset()
		issue(is)
		issue(is)
	}
	if got := contact.Load(); got != "[mailto:new@example.com]" || e.accounts.email != "new@example.com" {
		t.Errorf("the CA has %v, the store %q", got, e.accounts.email)
	}
	if n := e.ca.Requests().Count(pebbletest.Account); n != 0 {
		t.Errorf("%d more updates of the same contact", n)
	}
}

// HMAC keys of external account bindings may use any variant of base64, with or
// without a byte order mark. Short or broken keys are refused before the proxy starts,
// and the error does not repeat them.
func TestBindingKeys(t *testing.T) {
	t.Parallel()
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4-nMEtx3MUAsUDkMTQ12_"
	e := start(t, pebbletest.Options{EAB: map[string]string{"kid-1": key, "kid-2": key[:43]}}, func(cfg *testConfig) {
		cfg.EAB = &issuer.EAB{Kid: "kid-1", HMACKey: key}
	})
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(key)
	for text, kid := range map[string]string{
		key: "kid-1", standard: "kid-1", standard[:40] + "\n" + standard[40:] + "\n": "kid-1",
		key[:43]: "kid-2", key[:43] + "=": "kid-2",
		"\ufeff" + key + "\r\n": "\ufeffkid-1\r\n",
	} {
		is := e.another(t, func(cfg *testConfig) {
			cfg.Accounts, cfg.EAB = &memoryAccounts{}, &issuer.EAB{Kid: kid, HMACKey: text}
		})
		if _, err := is.Issue(t.Context(), ec(names(t, "eab.example.com")), nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, eab := range []issuer.EAB{
		{Kid: "kid-1", HMACKey: "secret!not base64"},
		{Kid: "kid-1", HMACKey: "c2hvcnQ="},
		{Kid: "kid-1"},
		{Kid: " ", HMACKey: key},
		{Kid: "\ufeff", HMACKey: key},
		{Kid: "kid-1", HMACKey: "\ufeff"},
		{Kid: "kid-1", HMACKey: key[:41]},
	} {
		_, err := newInstance(testConfig{Responder: newResponder(), CAConfig: issuer.CAConfig{
			DirectoryURL: e.ca.DirectoryURL, Accounts: &memoryAccounts{}, EAB: &eab,
		}})
		if err == nil || !strings.HasPrefix(err.Error(), "eab-") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", eab, err)
		}
	}
}
