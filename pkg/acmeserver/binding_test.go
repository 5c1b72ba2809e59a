package acmeserver_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

var hmacKey = bytes.Repeat([]byte("k"), 32)

// C19: an account is bound to the party that has the HMAC key. The account shows the
// binding as it was sent (RFC 8555, section 7.3.4).
func TestBinding(t *testing.T) {
	t.Parallel()
	var admitted acmeserver.NewAccount
	keys := map[string][]byte{"web1": hmacKey}
	s := newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{
			requires: func(entrance string) (bool, error) { return entrance == "", nil },
			keys:     keys,
			admit: func(a acmeserver.NewAccount) (string, error) {
				admitted = a
				return a.Kid, nil
			},
		}
	})
	c := newRaw(t, s)
	c.register(nil).refused(acme.ExternalAccountNeeded, http.StatusForbidden)
	c.register(object{"externalAccountBinding": nil}).refused(acme.ExternalAccountNeeded, http.StatusForbidden)
	b := bound(c.key, "web1", hmacKey, baseURL+"/new-account")
	r := c.register(object{"externalAccountBinding": b}).want(http.StatusCreated)
	if admitted.Kid != "web1" || admitted.Entrance != "" {
		t.Errorf("admitted %+v", admitted)
	}
	if got := r.object()["externalAccountBinding"]; string(rawacme.JSON(got)) != string(rawacme.JSON(b)) {
		t.Errorf("binding: %v", got)
	}
	if c.post(c.kid, nil).object()["externalAccountBinding"] == nil {
		t.Error("the account does not show its binding")
	}

	// The credential expires. The account remains, whatever the client sends.
	delete(keys, "web1")
	url := c.kid
	for _, again := range []any{b, bound(c.key, "other", hmacKey, "x"), "x", nil} {
		if c.register(object{"externalAccountBinding": again}).want(http.StatusOK); c.kid != url {
			t.Errorf("another account: %s", c.kid)
		}
	}

	// At an entrance of its own, a client needs no binding, but its binding counts.
	other := newRaw(t, s)
	at := baseURL + "/at/hunter2/new-account"
	b = bound(other.key, "web1", hmacKey, at)
	p := other.post(at, object{"externalAccountBinding": b}).refused(acme.Unauthorized, http.StatusForbidden)
	if strings.Contains(p.Detail, "hunter2") {
		t.Errorf("detail: %s", p.Detail)
	}
	r = other.post(at, object{}).want(http.StatusCreated)
	if admitted.Kid != "" || admitted.Entrance != "hunter2" || r.link("index") != baseURL+"/at/hunter2/directory" {
		t.Errorf("admitted %+v, index %s", admitted, r.link("index"))
	}
}

// C19: a rebuilt host comes back with the same credential and another key.
func TestBindingReused(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{keys: map[string][]byte{"web1": hmacKey}}
	})
	for range 2 {
		c := newRaw(t, s)
		b := bound(c.key, "web1", hmacKey, baseURL+"/new-account")
		c.register(object{"externalAccountBinding": b}).want(http.StatusCreated)
	}
}

// C19: a binding with any fault creates no account.
func TestBindingRefused(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{keys: map[string][]byte{"web1": hmacKey, "broken": nil}}
	})
	c := newRaw(t, s)
	url := baseURL + "/new-account"
	good := func() object { return bound(c.key, "web1", hmacKey, url) }
	for name, test := range map[string]struct {
		binding any
		kind    string
	}{
		"unknown kid":      {bound(c.key, "web2", hmacKey, url), acme.Unauthorized},
		"wrong HMAC key":   {bound(c.key, "web1", bytes.Repeat([]byte("x"), 32), url), acme.Unauthorized},
		"empty HMAC key":   {bound(c.key, "broken", []byte{}, url), acme.Unauthorized},
		"another's key":    {bound(rawacme.NewKey(), "web1", hmacKey, url), acme.Unauthorized},
		"another URL":      {bound(c.key, "web1", hmacKey, baseURL+"/new-order"), acme.Malformed},
		"another entrance": {bound(c.key, "web1", hmacKey, baseURL+"/at/x/new-account"), acme.Malformed},
		"a text":           {"x", acme.Malformed},
		"an empty object":  {object{}, acme.Malformed},
		"too large":        {rawacme.Changed(good(), object{"payload": strings.Repeat("A", 9000)}), acme.Malformed},
		"no signature":     {rawacme.Changed(good(), object{"signature": nil}), acme.Malformed},
		"another payload":  {rawacme.Changed(good(), object{"payload": rawacme.B64([]byte("{}"))}), acme.Unauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			r := c.register(object{"externalAccountBinding": test.binding})
			r.t = t
			if p := r.refused(test.kind, r.status); r.status >= 500 || !strings.Contains(p.Detail, "externalAccountBinding") {
				t.Errorf("%d %s", r.status, r.body)
			}
		})
	}
	c.register(object{"onlyReturnExisting": true}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
	c.register(object{"externalAccountBinding": good()}).want(http.StatusCreated)
}

// C19: the JWK in a binding is compared by its thumbprint, not by its text.
func TestBindingOtherText(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{keys: map[string][]byte{"web1": hmacKey}}
	}))
	jwk := rawacme.JWK(c.key.Public())
	text := fmt.Sprintf(`{ "y":%q,
		"kty":"EC", "kid":"x", "crv":"P-256", "x":%q }`, jwk["y"], jwk["x"])
	header := object{"alg": "HS256", "kid": "web1", "url": baseURL + "/new-account"}
	c.register(object{"externalAccountBinding": rawacme.Sign("HS256", hmacKey, header, text)}).want(http.StatusCreated)
}

// C6, C19: no payload of newAccount causes an internal error.
func FuzzNewAccount(f *testing.F) {
	s := newServer(f, func(c *acmeserver.Config) {
		c.Accounts = &rules{keys: map[string][]byte{"web1": hmacKey}}
	})
	c := newRaw(f, s)
	b := bound(c.key, "web1", hmacKey, baseURL+"/new-account")
	f.Add(string(rawacme.JSON(object{"externalAccountBinding": b, "contact": []string{"mailto:a@example.com"}})))
	f.Add(`{"termsOfServiceAgreed":true,"onlyReturnExisting":true}`)
	f.Add(`{"contact":["tel:7",null]}`)
	f.Fuzz(func(t *testing.T, payload string) {
		c := newRaw(t, s)
		r := c.post(baseURL+"/new-account", payload)
		if r.status >= 500 || (r.status != http.StatusCreated && r.object()["type"] == nil) {
			t.Errorf("%d %s", r.status, r.body)
		}
		if r.status != http.StatusCreated {
			return
		}
		c.kid = r.header.Get("Location")
		if r := c.post(c.kid, json.RawMessage(`{}`)); r.status != http.StatusOK {
			t.Errorf("account: %d %s", r.status, r.body)
		}
		if r := c.post(c.kid, payload); r.status >= 500 {
			t.Errorf("update: %d %s", r.status, r.body)
		}
	})
}

// observed is an Accounts that sees refused bindings.
type observed struct {
	rules
	seen []string // guarded by the test, which sends one request after the other
}

func (o *observed) Unbound(_ context.Context, a acmeserver.NewAccount, p *acme.Problem) {
	o.seen = append(o.seen, a.Kid+" "+acme.ShortType(p.Type))
}

// The administrator reads in the log who was refused an account, and why. A complete HMAC
// key in the place of the kid is not logged.
func TestRefusedBindingIsLogged(t *testing.T) {
	t.Parallel()
	var log logs
	accounts := &observed{rules: rules{
		requires: func(string) (bool, error) { return true, nil },
		keys:     map[string][]byte{"web1": hmacKey},
		admit: func(acmeserver.NewAccount) (string, error) {
			return "", &acme.Problem{Type: acme.Unauthorized, Detail: "it is disabled"}
		},
	}}
	s := newServer(t, func(c *acmeserver.Config) { c.Logger, c.Accounts = log.logger(), accounts })
	c := newRaw(t, s)
	url, confused := baseURL+"/new-account", strings.Repeat("k", 43)
	for _, test := range []struct {
		binding any
		want    []string
	}{
		{nil, []string{`reason="externalAccountBinding: this server requires it`}},
		{bound(c.key, "web1", bytes.Repeat([]byte("x"), 32), url), []string{"kid=web1 ", `reason="externalAccountBinding: signature: `}},
		{bound(c.key, confused, hmacKey, url), []string{"kid=" + confused[:30] + "…", "the key identifier is unknown"}},
		{bound(c.key, "web1", hmacKey, url), []string{"kid=web1 ", `reason="it is disabled"`}},
	} {
		log.take()
		if got := c.register(object{"externalAccountBinding": test.binding}); got.status < 400 {
			t.Fatalf("%s: %d", test.want, got.status)
		}
		event := log.take()
		for _, want := range append(test.want, "level=INFO msg=request method=POST route=/new-account ", " from=192.0.2.1 ") {
			if !strings.Contains(event, want) {
				t.Errorf("%s: no %q", event, want)
			}
		}
		if strings.Contains(event, confused) {
			t.Errorf("the whole key is logged: %s", event)
		}
	}
	want := []string{" externalAccountRequired", "web1 unauthorized", confused + " unauthorized"}
	if !slices.Equal(accounts.seen, want) {
		t.Errorf("seen %q, want %q", accounts.seen, want)
	}
}
