package offload

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

const thumbprint = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"

// records holds clients and audit entries in memory, because a bubble of synctest cannot
// wait for a database.
type records struct {
	mu      sync.Mutex
	clients map[string]clients.Client
	revoked bool // no client has a credential
	failing error
	entries []trail.Entry
}

func (r *records) ClientByID(_ context.Context, id string) (clients.Client, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.clients[id]
	if !ok {
		return c, managed.ErrNotFound
	}
	return c, r.failing
}

func (r *records) Credentials(_ context.Context, clientID string) ([]clients.Credential, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.revoked {
		return nil, nil
	}
	return []clients.Credential{{ID: "key of " + clientID, ClientID: clientID}}, nil
}

func (r *records) AppendAudit(_ context.Context, entries ...trail.Entry) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.entries = append(r.entries, entries...)
	return nil
}

func (r *records) AppendAuditLazily(ctx context.Context, entries ...trail.Entry) error {
	return r.AppendAudit(ctx, entries...)
}

func (*records) TakeQuota(context.Context, string, time.Time, int, ...trail.Entry) (bool, error) {
	return false, nil
}

func (*records) ReturnQuota(context.Context, string, time.Time) error       { return nil }
func (*records) QuotaTaken(context.Context, string, time.Time) (int, error) { return 0, nil }

// change changes a client.
func (r *records) change(id string, f func(*clients.Client)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c := r.clients[id]
	f(&c)
	r.clients[id] = c
}

// recorded counts audit entries.
func (r *records) recorded(client, action, outcome string) (n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range r.entries {
		if e.ClientID == client && e.Action == action && e.Outcome == outcome && e.Mode == clients.ModeChallenge && len(e.Names) == 1 {
			n++
		}
	}
	return n
}

// rig holds an Offload with the clients a and b, which may have names below example.com.
type rig struct {
	*Offload
	*records
	t         *testing.T
	responder *responder.Responder
	shared    []challenge.ClientAnswer
	ends      []func() // of the shared answers
	withdrawn atomic.Int64
	sharing   func() // called by Share; may be nil
}

func newRig(t *testing.T) *rig {
	r := &rig{t: t, records: &records{clients: map[string]clients.Client{}}, responder: responder.New()}
	for _, id := range []string{"a", "b"} {
		r.clients[id] = clients.Client{ID: id, Name: id, Grants: []clients.Grant{
			{Names: []string{"*.example.com"}, Modes: []clients.Mode{clients.ModeChallenge}, KeyTypes: []string{"rsa2048"}, Profiles: []string{"none"}, MaxNames: 1, DailyQuota: 1},
			{Names: []string{"*.example.org"}, Modes: clients.NativeModes()},
			{Names: []string{"*.example.net"}, Modes: []clients.Mode{clients.ModeChallenge}, Networks: []string{"192.0.2.0/24"}},
		}}
	}
	r.Offload = New(Config{
		Audit: audit.New(audit.Config{Store: r.records, Logger: slog.New(slog.DiscardHandler)}), Store: r.records, Answers: r.responder,
		OwnNames: func() []string { return []string{"proxy.example.com"} },
		Share: func(_ context.Context, a challenge.ClientAnswer, ended func()) func() {
			r.shared, r.ends = append(r.shared, a), append(r.ends, ended)
			if r.sharing != nil {
				r.sharing()
			}
			return func() { r.withdrawn.Add(1) }
		},
	})
	return r
}

func (r *rig) id(client string) clients.Identity {
	r.records.mu.Lock()
	defer r.records.mu.Unlock()
	return clients.Identity{Client: r.clients[client], Via: clients.TLSKey, CredentialID: "key of " + client, Addr: netip.MustParseAddr("192.0.2.1")}
}

func token(n int) string { return fmt.Sprintf("token-%016d", n) }

func (r *rig) present(client, name string, n int) error {
	_, err := r.Present(r.t.Context(), r.id(client), challenge.ClientAnswer{Name: name, Token: token(n), KeyAuthorization: token(n) + "." + thumbprint})
	return err
}

func (r *rig) mustPresent(client, name string, n int) {
	r.t.Helper()
	if err := r.present(client, name, n); err != nil {
		r.t.Fatal(err)
	}
}

// serves reports whether port 80 answers a token with a key authorization of the thumbprint.
func (r *rig) serves(name string, n int) bool { return r.body(name, n) == token(n)+"."+thumbprint }

func (r *rig) body(name string, n int) string {
	req := httptest.NewRequest(http.MethodGet, "http://"+name+responder.Prefix+token(n), http.NoBody)
	rec := httptest.NewRecorder()
	r.responder.ServeHTTP(rec, req)
	if rec.Code != http.StatusOK {
		return ""
	}
	return rec.Body.String()
}

// A token is answered for its name only, until the client withdraws it. Both calls may be
// repeated (X2).
func TestPresent(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPresent("a", "WWW.example.com", 1)
	r.mustPresent("a", "www.example.com", 1)
	for range 3 {
		if !r.serves("www.example.com", 1) {
			t.Fatal("not served")
		}
	}
	if r.serves("ftp.example.com", 1) || r.serves("www.example.com", 2) {
		t.Error("another name or token is answered")
	}
	if len(r.shared) != 2 || r.withdrawn.Load() != 1 || r.responder.Len() != 1 {
		t.Errorf("%d shared, %d withdrawn, %d answers", len(r.shared), r.withdrawn.Load(), r.responder.Len())
	}
	for range 2 {
		if err := r.Withdraw(t.Context(), r.id("a"), "www.EXAMPLE.com", token(1)); err != nil {
			t.Error(err)
		}
		if r.responder.Len() != 0 || r.withdrawn.Load() != 2 {
			t.Errorf("%d answers, %d withdrawn", r.responder.Len(), r.withdrawn.Load())
		}
	}
	if n, w := r.recorded("a", ActionPresent, trail.Allowed), r.recorded("a", ActionWithdraw, trail.Done); n != 2 || w != 1 {
		t.Errorf("%d and %d in the audit trail", n, w)
	}
}

// Whatever is not granted, not of the right form, or of the proxy itself is refused, and
// changes nothing (X2).
func TestRefused(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	good := challenge.ClientAnswer{Name: "www.example.com", Token: token(1), KeyAuthorization: token(1) + "." + thumbprint}
	for field, change := range map[string]func(*challenge.ClientAnswer){
		"name: it has one label only":  func(a *challenge.ClientAnswer) { a.Name = "www" },
		"name: a wildcard":             func(a *challenge.ClientAnswer) { a.Name = "*.example.com" },
		"token: short":                 func(a *challenge.ClientAnswer) { a.Token = "short" },
		"token: a path":                func(a *challenge.ClientAnswer) { a.Token = "../../" + a.Token },
		"key_authorization: other":     func(a *challenge.ClientAnswer) { a.KeyAuthorization = token(2) + "." + thumbprint },
		"key_authorization: no thumb":  func(a *challenge.ClientAnswer) { a.KeyAuthorization = a.Token },
		"key_authorization: long text": func(a *challenge.ClientAnswer) { a.KeyAuthorization += strings.Repeat("A", 1000) },
	} {
		a := good
		change(&a)
		_, err := r.Present(t.Context(), r.id("a"), a)
		var fault *cert.FieldError
		if !errors.As(err, &fault) || !strings.HasPrefix(field, fault.Field+":") {
			t.Errorf("%s: %v", field, err)
		}
	}
	for name, field := range map[string]string{"www.example.edu": "names", "www.example.org": "mode", "proxy.example.com": "names"} {
		var denied *policy.Denied
		if err := r.present("a", name, 1); !errors.As(err, &denied) || denied.Field != field {
			t.Errorf("%s: %v", name, err)
		}
	}
	outside := r.id("a")
	outside.Addr = netip.MustParseAddr("198.51.100.1")
	var denied *policy.Denied
	if _, err := r.Present(t.Context(), outside, challenge.ClientAnswer{Name: "www.example.net", Token: good.Token, KeyAuthorization: good.KeyAuthorization}); !errors.As(err, &denied) || denied.Field != "source" {
		t.Errorf("from another network: %v", err)
	}
	if n := r.recorded("a", ActionPresent, trail.Refused); n != 4 {
		t.Errorf("%d refusals in the audit trail", n)
	}
	r.cfg.Elsewhere = func() string { return "nginx answers there" }
	var elsewhere *challenge.ElsewhereError
	if err := r.present("a", "www.example.com", 1); !errors.As(err, &elsewhere) {
		t.Errorf("elsewhere: %v", err)
	}
	if len(r.shared) != 0 || r.responder.Len() != 0 {
		t.Error("something is served")
	}
}

// The proxy's own tokens and those of another client cannot be replaced or withdrawn. An
// own token of the proxy that comes later takes precedence (X2).
func TestTaken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	own := r.responder.Put("www.example.com", token(1), "own")
	r.mustPresent("a", "www.example.com", 2)
	for _, n := range []int{1, 2} {
		if err := r.present("b", "www.example.com", n); !errors.Is(err, challenge.ErrTaken) {
			t.Errorf("present %d: %v", n, err)
		}
		if err := r.Withdraw(t.Context(), r.id("b"), "www.example.com", token(n)); !errors.Is(err, challenge.ErrTaken) {
			t.Errorf("withdraw %d: %v", n, err)
		}
	}
	if r.body("www.example.com", 1) != "own" || !r.serves("www.example.com", 2) {
		t.Error("an answer was replaced")
	}
	if p, w := r.recorded("b", ActionPresent, trail.Refused), r.recorded("b", ActionWithdraw, trail.Refused); p != 2 || w != 2 {
		t.Errorf("%d and %d refusals", p, w)
	}
	if err := r.Withdraw(t.Context(), r.id("b"), "www.example.edu", token(9)); err == nil {
		t.Error("a name without a grant was withdrawn")
	}
	later := r.responder.Put("www.example.com", token(2), "own")
	if r.body("www.example.com", 2) != "own" {
		t.Error("the client's answer hides the proxy's")
	}
	later.Remove()
	own.Remove()
	if !r.serves("www.example.com", 2) {
		t.Error("the client's answer is gone")
	}
}

// An answer ends after an hour. A repetition begins the hour again (X2).
func TestLife(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		r.mustPresent("a", "www.example.com", 1)
		r.mustPresent("a", "www.example.com", 2)
		time.Sleep(Life / 2)
		r.mustPresent("a", "www.example.com", 2)
		time.Sleep(Life/2 + time.Second)
		synctest.Wait()
		if r.serves("www.example.com", 1) || !r.serves("www.example.com", 2) {
			t.Error("after an hour")
		}
		time.Sleep(Life / 2)
		synctest.Wait()
		if r.responder.Len() != 0 || len(r.answers) != 0 || int(r.withdrawn.Load()) != len(r.shared) || r.places.Held("a") != 0 {
			t.Errorf("%d answers, %d withdrawn of %d", r.responder.Len(), r.withdrawn.Load(), len(r.shared))
		}
	})
}

// The answers end at once when the client is removed or disabled, loses its grant or its
// credential, also in the middle of Present (X2).
func TestRecheck(t *testing.T) {
	t.Parallel()
	for what, change := range map[string]func(r *rig){
		"removed":  func(r *rig) { r.records.mu.Lock(); delete(r.clients, "a"); r.records.mu.Unlock() },
		"disabled": func(r *rig) { r.change("a", func(c *clients.Client) { c.Disabled = true }) },
		"grant":    func(r *rig) { r.change("a", func(c *clients.Client) { c.Grants = c.Grants[1:] }) },
		"mode": func(r *rig) {
			r.change("a", func(c *clients.Client) { c.Grants = slices.Clone(c.Grants); c.Grants[0].Modes = clients.NativeModes() })
		},
		"network": func(r *rig) {
			r.change("a", func(c *clients.Client) {
				c.Grants = slices.Clone(c.Grants)
				c.Grants[0].Networks = []string{"10.0.0.0/8"}
			})
		},
		"revoked": func(r *rig) { r.records.mu.Lock(); r.revoked = true; r.records.mu.Unlock() },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			r.mustPresent("a", "www.example.com", 1)
			foreign := false
			r.Serve(challenge.ClientAnswer{
				ClientID: "a", CredentialID: "key of a", Addr: netip.MustParseAddr("192.0.2.1"), Name: "www.example.com", Token: token(2),
				KeyAuthorization: token(2) + "." + thumbprint, Until: time.Now().Add(time.Minute),
			}, func() { foreign = true })
			if err := r.Recheck(t.Context()); err != nil || r.responder.Len() != 2 {
				t.Fatalf("without a change: %v", err)
			}
			by := r.id("a")
			r.sharing = func() { change(r) }
			_, err := r.Present(t.Context(), by, challenge.ClientAnswer{Name: "www.example.com", Token: token(3), KeyAuthorization: token(3) + "." + thumbprint})
			var denied *policy.Denied
			if !errors.As(err, &denied) || r.serves("www.example.com", 3) {
				t.Errorf("in the middle of Present: %v", err)
			}
			if err := r.Recheck(t.Context()); err != nil {
				t.Error(err)
			}
			if r.responder.Len() != 0 || r.withdrawn.Load() != 2 || !foreign {
				t.Errorf("%d answers are left, %d withdrawn, %t", r.responder.Len(), r.withdrawn.Load(), foreign)
			}
			if n := r.recorded("a", ActionWithdraw, trail.Done); n != 1 {
				t.Errorf("%d in the audit trail", n)
			}
		})
	}
}

// A database that cannot be read ends no answer.
func TestRecheckFails(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.mustPresent("a", "www.example.com", 1)
	r.failing = errors.New("down")
	if err := r.Recheck(t.Context()); err == nil || !r.serves("www.example.com", 1) {
		t.Errorf("%v", err)
	}
	if err := r.present("a", "www.example.com", 2); err == nil || r.serves("www.example.com", 2) {
		t.Errorf("a new one: %v", err)
	}
}

// A client has a limited number of answers, and takes none of another client's share
// (X2, X42).
func TestShares(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for n := range Limits.PerClient {
		r.mustPresent("a", "www.example.com", n)
	}
	var soon *audit.TooSoon
	if err := r.present("a", "www.example.com", 9999); !errors.As(err, &soon) || !strings.Contains(err.Error(), "256 answers") {
		t.Errorf("one too many: %v", err)
	}
	r.mustPresent("a", "www.example.com", 7) // it has a place already
	r.mustPresent("b", "www.example.com", 9999)
	if err := r.Withdraw(t.Context(), r.id("a"), "www.example.com", token(7)); err != nil {
		t.Fatal(err)
	}
	r.mustPresent("a", "www.example.com", 10_000)
	if n := r.responder.Len(); n != Limits.PerClient+1 {
		t.Errorf("%d answers", n)
	}
	if err := r.Close(); err != nil || r.responder.Len() != 0 {
		t.Errorf("%d answers after Close, %v", r.responder.Len(), err)
	}
	if err := r.present("a", "www.example.com", 1); err == nil || r.responder.Len() != 0 {
		t.Error("an answer after Close")
	}
}

// Answers of other instances: another client's is not replaced, the time is bounded, and
// the client may withdraw or replace its own here (X2, X18).
func TestForeign(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ended := 0
		foreign := func(client string, n int) (remove func()) {
			return r.Serve(challenge.ClientAnswer{
				ClientID: client, CredentialID: "key of " + client, Name: "www.example.com", Token: token(n),
				KeyAuthorization: token(n) + "." + thumbprint, Until: time.Now().Add(48 * time.Hour),
			}, func() { ended++ })
		}
		r.mustPresent("a", "www.example.com", 1)
		if foreign("b", 1) != nil {
			t.Error("another client's answer was taken")
		}
		foreign("a", 2)
		if err := r.present("b", "www.example.com", 2); !errors.Is(err, challenge.ErrTaken) {
			t.Errorf("another client's at another instance: %v", err)
		}
		r.mustPresent("a", "www.example.com", 2) // replaces the one of the other instance
		if ended != 1 || !r.serves("www.example.com", 2) {
			t.Errorf("%d ended", ended)
		}
		foreign("a", 3)
		if err := r.Withdraw(t.Context(), r.id("a"), "www.example.com", token(3)); err != nil || ended != 2 || r.serves("www.example.com", 3) {
			t.Errorf("withdraw: %v, %d ended", err, ended)
		}
		remove := foreign("a", 4)
		remove()
		remove()
		foreign("a", 5)
		r.ends[0]() // the client withdrew the first one elsewhere
		if r.serves("www.example.com", 1) || r.serves("www.example.com", 4) || !r.serves("www.example.com", 5) {
			t.Error("wrong answers")
		}
		time.Sleep(Life + maxSkew + time.Second)
		synctest.Wait()
		if r.responder.Len() != 0 || r.foreign != 0 || ended != 2 {
			t.Errorf("%d answers, %d foreign, %d ended", r.responder.Len(), r.foreign, ended)
		}
	})
}

// Run rechecks after a change, and now and then.
func TestRun(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go r.Run(ctx)
		for n, wait := range []time.Duration{0, recheckEvery + time.Second} {
			r.mustPresent("a", "www.example.com", n)
			r.change("a", func(c *clients.Client) { c.Disabled = true })
			if wait == 0 {
				r.Changed()
				r.Changed()
			}
			time.Sleep(wait)
			synctest.Wait()
			if r.responder.Len() != 0 {
				t.Errorf("after %v it is served", wait)
			}
			r.change("a", func(c *clients.Client) { c.Disabled = false })
		}
	})
}
