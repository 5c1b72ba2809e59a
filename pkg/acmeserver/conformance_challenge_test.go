package acmeserver_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// proofs is a validator whose answers a test sets by name.
type proofs struct {
	mu      sync.Mutex // guards the fields below
	answers map[string]error
	seen    []acmeserver.Validation
}

func (p *proofs) set(name string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.answers == nil {
		p.answers = map[string]error{}
	}
	p.answers[name] = err
}

func (p *proofs) of(name string) (seen []acmeserver.Validation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range p.seen {
		if v.Identifier.Value == name {
			seen = append(seen, v)
		}
	}
	return seen
}

func (p *proofs) Validate(_ context.Context, v acmeserver.Validation) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, v)
	return p.answers[v.Identifier.Value]
}

// validated runs a test with challenges, whose outcome proofs decides.
func validated(t *testing.T, test func(t *testing.T, w *world, p *proofs)) {
	conform(t, func(c *acmeserver.Config) {
		p := &proofs{}
		c.Policy = nil // challenges of all validators
		c.Validators = map[string]acmeserver.Validator{"http-01": p, "dns-01": p}
	}, func(t *testing.T, w *world) {
		test(t, w, w.cfg.Validators["http-01"].(*proofs))
	})
}

// C7, C8, C10: RFC 8555, sections 7.1.6, 7.5.1 and 8.
func TestConformChallenges(t *testing.T) {
	validated(t, func(t *testing.T, w *world, p *proofs) {
		t.Run("states", func(t *testing.T) {
			c := w.register(t)
			o := c.order("a.example.com", "*.b.example.com")
			o.finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.OrderNotReady, "a.example.com", "*.b.example.com")
			if o.again().Status != "pending" {
				t.Error("the order is not pending")
			}
			a, b := o.authz(0), o.authz(1)
			if a.Status != "pending" || len(a.Challenges) != 2 ||
				b.Status != "pending" || len(b.Challenges) != 1 || !b.Wildcard {
				t.Fatalf("authorizations are %+v and %+v", a, b)
			}
			for _, ch := range a.Challenges {
				if ch.Status != "pending" || strings.Trim(ch.Token, base64url) != "" {
					t.Errorf("challenge is %+v", ch)
				}
				c.get(ch.URL).want(http.StatusOK) // POST-as-GET asks for no validation
			}
			a.validate("http-01")
			watch.Until(t, "the authorization is valid", func() bool { return c.authz(a.url).Status == "valid" })
			if o.again().Status != "pending" {
				t.Error("the order is not pending")
			}
			b.validate("dns-01")
			watch.Until(t, "the authorization is valid", func() bool { return c.authz(b.url).Status == "valid" })
			// Older certbots do not survive orderNotReady now.
			done := o.issue(rawacme.NewKey())
			if chain, _ := c.download(done.Certificate); len(chain[0].DNSNames) != 2 {
				t.Errorf("names are %q", chain[0].DNSNames)
			}
			seen := p.of("a.example.com")
			token := a.challenge("http-01").Token
			if len(seen) != 1 || seen[0].Type != "http-01" || seen[0].Token != token ||
				seen[0].KeyAuthorization != c.keyAuthorization(token) || !seen[0].Addr.IsLoopback() ||
				c.kid != w.url+"/account/"+seen[0].AccountID {
				t.Errorf("validations are %+v", seen)
			}
			// Nothing is validated again, and the other challenge stays as it is.
			if again := a.validate("http-01"); again.Status != "valid" || again.Validated.IsZero() {
				t.Errorf("challenge is %+v", again)
			}
			a.validate("dns-01")
			if a = c.authz(a.url); a.challenge("dns-01").Status != "pending" || len(p.of("a.example.com")) != 1 {
				t.Errorf("authorization is %+v", a)
			}
		})
		t.Run("failure", func(t *testing.T) {
			c := w.register(t)
			p.set("c.example.com", &acme.Problem{Type: acme.IncorrectResponse, Detail: "the file has \x1b[31manother text"})
			o := c.order("c.example.com", "d.example.com")
			o.authz(0).validate("http-01")
			o = o.await("invalid")
			a := o.authz(0)
			ch := a.challenge("http-01")
			if a.Status != "invalid" || ch.Status != "invalid" || ch.Error == nil || ch.Error.Type != acme.IncorrectResponse ||
				strings.Contains(ch.Error.Detail, "\x1b") {
				t.Errorf("authorization is %+v", a)
			}
			if o.Error.Type != acme.IncorrectResponse || !strings.Contains(o.Error.Text(), "c.example.com") {
				t.Errorf("error is %v", o.Error)
			}
			o.finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.OrderNotReady, "invalid")
			a.validate("http-01") // 200, and unchanged
			if n := len(p.of("c.example.com")); n != 1 {
				t.Errorf("%d validations", n)
			}
		})
		t.Run("later", func(t *testing.T) {
			c := w.register(t)
			p.set("e.example.com", &acmeserver.Later{After: 20 * time.Millisecond, Reason: "no answer yet"})
			o := c.order("e.example.com")
			a := o.authz(0)
			if ch := a.validate("dns-01"); ch.Status != "processing" {
				t.Errorf("challenge is %+v", ch)
			}
			watch.Until(t, "the validator is asked three times", func() bool { return len(p.of("e.example.com")) >= 3 })
			if a = c.authz(a.url); a.Status != "pending" || a.challenge("dns-01").Status != "processing" {
				t.Errorf("authorization is %+v", a)
			}
			o.finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.OrderNotReady)
			p.set("e.example.com", nil)
			o.await("ready").issue(rawacme.NewKey())
		})
		t.Run("old payload", func(t *testing.T) { // of clients that follow early drafts
			c := w.register(t)
			o := c.order("f.example.com")
			ch := o.authz(0).challenge("http-01")
			c.post(ch.URL, fields{"type": "http-01", "keyAuthorization": c.keyAuthorization(ch.Token)}).want(http.StatusOK)
			o.await("ready")
			for _, payload := range []string{`x`, `[]`, `"x"`} {
				c.post(ch.URL, payload).refused(http.StatusBadRequest, acme.Malformed)
			}
		})
		t.Run("after a restart", func(t *testing.T) {
			c := w.register(t)
			p.set("g.example.com", &acmeserver.Later{After: 10 * time.Millisecond})
			o := c.order("g.example.com")
			o.authz(0).validate("http-01")
			w.end()
			w.start()
			p.set("g.example.com", nil)
			o.await("ready")
		})
		t.Run("with the key that the account has then", func(t *testing.T) {
			c := w.register(t)
			p.set("h.example.com", &acmeserver.Later{After: 10 * time.Millisecond})
			o := c.order("h.example.com")
			token := o.authz(0).validate("http-01").Token
			key := rawacme.NewKey()
			c.changeKey(key).want(http.StatusOK)
			c.key = key
			watch.Until(t, "the new key authorization is validated", func() bool {
				seen := p.of("h.example.com")
				return len(seen) > 0 && seen[len(seen)-1].KeyAuthorization == c.keyAuthorization(token)
			})
		})
	})
}

// C7: RFC 8555, sections 7.1.6 and 7.5.2: deactivation and expiry.
func TestConformAuthorizations(t *testing.T) {
	validated(t, func(t *testing.T, w *world, _ *proofs) {
		t.Run("deactivate", func(t *testing.T) {
			for _, status := range []string{"pending", "ready"} {
				c := w.register(t)
				o := c.order("a.example.com")
				if status == "ready" {
					o.authz(0).validate("http-01")
					o.await("ready")
				}
				for _, payload := range []fields{{}, {"status": "valid"}, {"status": "revoked"}} {
					c.post(o.Authorizations[0], payload).refused(http.StatusBadRequest, acme.Malformed, "status")
				}
				var a authorization
				c.post(o.Authorizations[0], fields{"status": "deactivated"}).want(http.StatusOK).decode(&a)
				if a.Status != "deactivated" || o.authz(0).Status != "deactivated" {
					t.Errorf("authorization is %+v", a)
				}
				o.await("invalid").finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.OrderNotReady)
			}
		})
		t.Run("expire", func(t *testing.T) {
			c := w.register(t)
			pending, ready, done := c.order("a.example.com"), c.order("b.example.com"), c.order("c.example.com")
			ready.authz(0).validate("http-01")
			ready.await("ready")
			done.authz(0).validate("http-01")
			done = done.await("ready").issue(rawacme.NewKey())
			w.clock.Add(int64(25 * time.Hour))
			for _, o := range []*order{pending, ready} {
				now := o.await("invalid")
				if now.Error == nil || !strings.Contains(now.Error.Detail, "expired") || o.authz(0).Status != "expired" {
					t.Errorf("order is %+v", now)
				}
				o.finalize(rawacme.NewKey()).refused(http.StatusForbidden, acme.OrderNotReady, "expired")
			}
			c.post(pending.authz(0).Challenges[0].URL, fields{}).refused(http.StatusBadRequest, acme.Malformed, "expired")
			done.await("valid")
			c.download(done.Certificate) // a certificate outlives its order
		})
	})
}
