package acmeserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

type account struct {
	Status               string          `json:"status"`
	Contact              []string        `json:"contact"`
	TermsOfServiceAgreed bool            `json:"termsOfServiceAgreed"`
	Orders               string          `json:"orders"`
	Binding              json.RawMessage `json:"externalAccountBinding"`
}

// read reads an account's answer. Its Location is always the account's URL: some clients
// read it there only.
func (c *client) read(r *response) (a account) {
	c.t.Helper()
	r.decode(&a)
	if a.Status == "" || a.Orders == "" || r.location() == "" || (c.kid != "" && r.location() != c.kid) {
		c.t.Errorf("%s: Location %q, %s", r.url, r.header.Get("Location"), r.body)
	}
	return a
}

// C6: RFC 8555, sections 7.1.2, 7.3 and 7.3.1.
func TestConformNewAccount(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		t.Run("create and find", func(t *testing.T) {
			c := w.client(t)
			c.post(w.dir.NewAccount, fields{"onlyReturnExisting": true}).
				refused(http.StatusBadRequest, acme.AccountDoesNotExist)
			contact := []string{"mailto:a@example.com", "mailto:b@example.com"}
			r := c.post(w.dir.NewAccount, fields{
				"contact": contact, "termsOfServiceAgreed": true, "status": "revoked", "orders": "https://example.com",
			}).want(http.StatusCreated)
			a := c.read(r)
			if a.Status != "valid" || !slices.Equal(a.Contact, contact) || !strings.HasPrefix(a.Orders, w.url) {
				t.Errorf("account is %+v", a)
			}
			for _, payload := range []fields{
				{},
				{"onlyReturnExisting": true},
				{"contact": []string{"mailto:other@example.com"}},
				{"contact": []string{"tel:1"}},
			} {
				again := c.post(w.dir.NewAccount, payload).want(http.StatusOK)
				if again.location() != r.location() || !slices.Equal(c.read(again).Contact, contact) {
					t.Errorf("%v: Location %s, %s", payload, again.location(), again.body)
				}
			}
		})
		t.Run("contacts", func(t *testing.T) {
			for contact, kind := range map[string]string{
				"tel:+12025551212":                acme.UnsupportedContact,
				"admin@example.com":               acme.UnsupportedContact,
				"":                                acme.UnsupportedContact,
				"mailto:":                         acme.InvalidContact,
				"mailto:admin":                    acme.InvalidContact,
				"mailto:a@example.com,b@b.com":    acme.InvalidContact,
				"mailto:a@example.com?subject=hi": acme.InvalidContact,
				"mailto:A <a@example.com>":        acme.InvalidContact,
				"mailto:\x1b[31m@example.com":     acme.InvalidContact,
				"mailto:" + strings.Repeat("a", 400) + "@example.com": acme.InvalidContact,
			} {
				w.client(t).post(w.dir.NewAccount, fields{"contact": []string{contact}}).
					refused(http.StatusBadRequest, kind, "contact")
			}
			many := slices.Repeat([]string{"mailto:a@example.com"}, 11)
			w.client(t).post(w.dir.NewAccount, fields{"contact": many}).refused(http.StatusBadRequest, acme.InvalidContact, "10")
		})
		t.Run("the same key at the same time", func(t *testing.T) {
			key := rawacme.NewKey()
			var all sync.WaitGroup
			urls := make([]string, 6)
			for i := range urls {
				c := w.client(t)
				c.key = key
				c.nonce = c.takeNonce()
				all.Go(func() { urls[i] = c.post(w.dir.NewAccount, fields{}).header.Get("Location") })
			}
			all.Wait()
			if slices.Sort(urls); urls[0] == "" || urls[0] != urls[5] {
				t.Errorf("accounts are %q", urls)
			}
		})
		t.Run("by an account", func(t *testing.T) {
			w.register(t).post(w.dir.NewAccount, fields{}).refused(http.StatusBadRequest, acme.Malformed, "jwk")
		})
	})
}

// C6, C9: RFC 8555, sections 7.3.2 and 7.3.6.
func TestConformAccount(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		t.Run("update", func(t *testing.T) {
			c := w.register(t)
			contact := []string{"mailto:new@example.com"}
			if a := c.read(c.post(c.kid, fields{"contact": contact}).want(http.StatusOK)); !slices.Equal(a.Contact, contact) {
				t.Errorf("account is %+v", a)
			}
			for _, ignored := range []any{fields{}, fields{"status": "valid"}, fields{"orders": "x", "other": 1}, nil} {
				a := c.read(c.post(c.kid, ignored).want(http.StatusOK))
				if !slices.Equal(a.Contact, contact) || a.Status != "valid" {
					t.Errorf("%v: account is %+v", ignored, a)
				}
			}
			c.post(c.kid, fields{"contact": []string{"tel:1"}}).refused(http.StatusBadRequest, acme.UnsupportedContact)
			if a := c.read(c.post(c.kid, fields{"contact": []string{}}).want(http.StatusOK)); len(a.Contact) > 0 {
				t.Errorf("account is %+v", a)
			}
		})
		t.Run("another account", func(t *testing.T) {
			c, victim := w.register(t), w.register(t)
			for _, payload := range []any{nil, fields{"status": "deactivated"}} {
				c.post(victim.kid, payload).refused(http.StatusForbidden, acme.Unauthorized)
			}
			c.get(victim.kid+"/orders").refused(http.StatusForbidden, acme.Unauthorized)
			victim.get(victim.kid).want(http.StatusOK)
		})
		t.Run("deactivate", func(t *testing.T) {
			c := w.register(t)
			o := c.order("a.example.com")
			if a := c.read(c.post(c.kid, fields{"status": "deactivated"}).want(http.StatusOK)); a.Status != "deactivated" {
				t.Errorf("account is %+v", a)
			}
			for _, url := range []string{c.kid, o.url, o.Authorizations[0]} { // 401 by section 7.3.6
				c.get(url).refused(http.StatusUnauthorized, acme.Unauthorized, "deactivated")
			}
			c.post(w.dir.NewOrder, orderOf("a.example.com")).refused(http.StatusUnauthorized, acme.Unauthorized)
			o.finalize(rawacme.NewKey()).refused(http.StatusUnauthorized, acme.Unauthorized)
			c.kid = ""
			c.post(w.dir.NewAccount, fields{}).refused(http.StatusUnauthorized, acme.Unauthorized)
		})
		t.Run("orders", func(t *testing.T) { // section 7.1.2.1
			c := w.register(t)
			var want []string
			for i := range 103 {
				want = append(want, c.order(fmt.Sprintf("n%d.example.com", i)).url)
			}
			slices.Reverse(want)
			var got []string
			pages := 0
			for url := c.read(c.get(c.kid)).Orders; url != ""; pages++ {
				var page struct{ Orders []string }
				r := c.get(url).want(http.StatusOK).decode(&page)
				got = append(got, page.Orders...)
				url = ""
				if next := r.links("next"); len(next) == 1 {
					url = next[0]
				}
			}
			if slices.Sort(got); pages < 2 || !slices.Equal(got, slices.Sorted(slices.Values(want))) {
				t.Errorf("%d pages with %d orders", pages, len(got))
			}
			if r := w.register(t); !bytes.Contains(r.get(r.kid+"/orders").want(http.StatusOK).body, []byte(`"orders":[]`)) {
				t.Error("the list of an account without orders is not empty")
			}
		})
	})
}

// C18: RFC 8555, section 7.3.5.
func TestConformKeyChange(t *testing.T) {
	conform(t, nil, func(t *testing.T, w *world) {
		change := func(c *client, header, payload fields) string {
			key := rawacme.Keys()["ES384"]
			h := fields{"alg": "ES384", "jwk": rawacme.JWK(key.Public()), "url": w.dir.KeyChange}
			p := fields{"account": c.kid, "oldKey": rawacme.JWK(c.key.Public())}
			return text(rawacme.Sign("ES384", key, rawacme.Changed(h, header), text(rawacme.Changed(p, payload))))
		}
		t.Run("faults", func(t *testing.T) {
			c, other := w.register(t), w.register(t)
			for name, test := range map[string]struct{ header, payload fields }{
				"another url":     {fields{"url": w.dir.NewOrder}, nil},
				"no url":          {fields{"url": nil}, nil},
				"nonce":           {fields{"nonce": "AAAA"}, nil},
				"kid":             {fields{"jwk": nil, "kid": c.kid}, nil},
				"wrong signature": {fields{"alg": "ES256", "jwk": rawacme.JWK(other.key.Public())}, nil},
				"another account": {nil, fields{"account": other.kid}},
				"no account":      {nil, fields{"account": nil}},
				"another key":     {nil, fields{"oldKey": rawacme.JWK(other.key.Public())}},
				"no old key":      {nil, fields{"oldKey": nil}},
			} {
				t.Run(name, func(t *testing.T) {
					own := c.in(t)
					own.post(w.dir.KeyChange, change(c, test.header, test.payload)).refused(http.StatusBadRequest, acme.Malformed)
				})
			}
			c.post(w.dir.KeyChange, `{}`).refused(http.StatusBadRequest, acme.Malformed)
			c.get(c.kid).want(http.StatusOK)
		})
		t.Run("change", func(t *testing.T) {
			c := w.register(t)
			o := c.order("a.example.com")
			old := *c
			c.read(c.post(w.dir.KeyChange, change(c, nil, nil)).want(http.StatusOK))
			old.get(old.kid).refused(http.StatusBadRequest, acme.BadSignatureAlgorithm)
			c.key = rawacme.Keys()["ES384"]
			c.read(c.get(c.kid).want(http.StatusOK))
			done := o.issue(rawacme.NewKey())
			c.download(done.Certificate)
			old.kid = "" // the old key has no account now
			old.post(w.dir.NewAccount, fields{"onlyReturnExisting": true}).
				refused(http.StatusBadRequest, acme.AccountDoesNotExist)
		})
		t.Run("conflict", func(t *testing.T) {
			c := w.register(t)
			r := c.post(w.dir.KeyChange, change(c, nil, nil))
			r.refused(http.StatusConflict, acme.Malformed)
			if l := r.location(); l == c.kid || !strings.HasPrefix(l, w.url+"/account/") {
				t.Errorf("Location is %q", l)
			}
			c.get(c.kid).want(http.StatusOK)
		})
	})
}

// C19: RFC 8555, section 7.3.3.
func TestConformTerms(t *testing.T) {
	conform(t, func(c *acmeserver.Config) { c.Terms = "https://example.com/terms/1" }, func(t *testing.T, w *world) {
		c := w.client(t)
		for _, agreed := range []any{nil, false} {
			r := c.post(w.dir.NewAccount, fields{"termsOfServiceAgreed": agreed})
			r.refused(http.StatusForbidden, acme.UserActionRequired, "terms/1")
		}
		c = w.register(t)
		if a := c.read(c.get(c.kid)); !a.TermsOfServiceAgreed {
			t.Errorf("account is %+v", a)
		}
		o := c.order("a.example.com")
		w.end()
		w.cfg.Terms = "https://example.com/terms/2"
		w.start()
		r := c.post(w.dir.NewOrder, orderOf("a.example.com"))
		p := r.refused(http.StatusForbidden, acme.UserActionRequired, "terms/2")
		if l := r.links("terms-of-service"); p.Instance != w.cfg.Terms || !slices.Equal(l, []string{w.cfg.Terms}) {
			t.Errorf("instance is %q, links are %q", p.Instance, l)
		}
		o.issue(rawacme.NewKey()) // what was begun may be finished
		if a := c.read(c.get(c.kid)); a.TermsOfServiceAgreed {
			t.Errorf("account is %+v", a)
		}
		c.read(c.post(c.kid, fields{"termsOfServiceAgreed": true}).want(http.StatusOK))
		c.order("a.example.com")
	})
}

// bindings is an Accounts that requires a binding.
type bindings struct {
	acmeserver.AnyAccount
	mu   sync.Mutex // guards keys
	keys map[string][]byte
}

func (*bindings) RequiresBinding(_ context.Context, entrance string) (bool, error) {
	if entrance != "" && entrance != "open" {
		return false, acmeserver.ErrNotFound
	}
	return entrance == "", nil
}

func (b *bindings) BindingKey(_ context.Context, kid string) ([]byte, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if key, ok := b.keys[kid]; ok {
		return key, nil
	}
	return nil, acmeserver.ErrNotFound
}

func (*bindings) Admit(_ context.Context, a acmeserver.NewAccount) (string, error) { return a.Kid, nil }

func (*bindings) Allow(_ context.Context, a acmeserver.Account, addr netip.Addr) error {
	if a.Kid == "revoked" || !addr.IsLoopback() {
		return &acme.Problem{Type: acme.Unauthorized, Detail: "the credential was revoked"}
	}
	return nil
}

// C19: RFC 8555, section 7.3.4.
func TestConformBinding(t *testing.T) {
	secret := bytes.Repeat([]byte("s"), 64)
	accounts := func() *bindings {
		return &bindings{keys: map[string][]byte{"host-1": secret, "revoked": secret}}
	}
	conform(t, func(c *acmeserver.Config) { c.Accounts = accounts() }, func(t *testing.T, w *world) {
		bind := func(c *client, alg string, changes fields, key []byte) fields {
			h := rawacme.Changed(fields{"alg": alg, "kid": "host-1", "url": w.dir.NewAccount}, changes)
			return fields{"externalAccountBinding": rawacme.Sign(alg, key, h, text(rawacme.JWK(c.key.Public())))}
		}
		if r := w.dir.Meta.ExternalAccountRequired; r == nil || !*r {
			t.Errorf("meta is %+v", w.dir.Meta)
		}
		for name, test := range map[string]struct {
			changes fields
			key     []byte
			status  int
			kind    string
		}{
			"unknown kid":   {fields{"kid": "host-2"}, secret, 403, acme.Unauthorized},
			"wrong key":     {nil, secret[1:], 403, acme.Unauthorized},
			"another url":   {fields{"url": w.dir.NewOrder}, secret, 400, acme.Malformed},
			"nonce":         {fields{"nonce": "AAAA"}, secret, 400, acme.Malformed},
			"signature":     {fields{"alg": "ES256"}, secret, 400, acme.BadSignatureAlgorithm},
			"no kid":        {fields{"kid": nil}, secret, 400, acme.Malformed},
			"empty kid":     {fields{"kid": ""}, secret, 400, acme.Malformed},
			"crit":          {fields{"crit": []string{"x"}}, secret, 400, acme.Malformed},
			"kid with junk": {fields{"kid": "\x00\xff host-1"}, secret, 403, acme.Unauthorized},
		} {
			t.Run(name, func(t *testing.T) {
				c := w.client(t)
				c.post(w.dir.NewAccount, bind(c, "HS256", test.changes, test.key)).
					refused(test.status, test.kind, "externalAccountBinding")
			})
		}
		t.Run("missing", func(t *testing.T) {
			for _, payload := range []fields{{}, {"externalAccountBinding": nil}} {
				w.client(t).post(w.dir.NewAccount, payload).refused(http.StatusForbidden, acme.ExternalAccountNeeded)
			}
			w.client(t).post(w.dir.NewAccount, fields{"externalAccountBinding": fields{}}).
				refused(http.StatusBadRequest, acme.Malformed, "externalAccountBinding")
		})
		t.Run("of another key", func(t *testing.T) {
			c, other := w.client(t), w.client(t)
			c.post(w.dir.NewAccount, bind(other, "HS256", nil, secret)).refused(http.StatusForbidden, acme.Unauthorized)
		})
		t.Run("twice", func(t *testing.T) { // nginx-acme sends it each time; certbot#8944
			for _, alg := range []string{"HS256", "HS384", "HS512"} {
				c := w.client(t)
				payload := bind(c, alg, nil, secret)
				r := c.post(w.dir.NewAccount, payload).want(http.StatusCreated)
				if a := c.read(r); len(a.Binding) == 0 {
					t.Errorf("account is %s", r.body)
				}
				c.post(w.dir.NewAccount, payload).want(http.StatusOK)
				c.post(w.dir.NewAccount, fields{"onlyReturnExisting": true}).want(http.StatusOK)
				c.post(w.dir.NewAccount, bind(c, alg, fields{"kid": "gone"}, secret)).want(http.StatusOK)
			}
		})
		t.Run("revoked", func(t *testing.T) {
			c := w.client(t)
			bound := bind(c, "HS256", fields{"kid": "revoked"}, secret)
			c.kid = c.post(w.dir.NewAccount, bound).want(http.StatusCreated).location()
			c.get(c.kid).refused(http.StatusForbidden, acme.Unauthorized, "revoked")
			c.post(w.dir.NewOrder, orderOf("a.example.com")).refused(http.StatusForbidden, acme.Unauthorized)
		})
		t.Run("entrance", func(t *testing.T) {
			var dir directory
			w.request(t, http.MethodGet, w.url+"/at/open/directory").want(http.StatusOK).decode(&dir)
			if *dir.Meta.ExternalAccountRequired || dir.NewAccount == w.dir.NewAccount {
				t.Errorf("directory is %+v", dir)
			}
			c := w.client(t)
			c.kid = c.post(dir.NewAccount, fields{}).want(http.StatusCreated).location()
			c.order("a.example.com").issue(rawacme.NewKey())
		})
	})
}
