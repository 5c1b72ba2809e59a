package remote_test

import (
	"context"
	"errors"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// enrolled is a new host with a token.
func enrolled(t testing.TB, token auth.EnrollToken) *remote.State {
	t.Helper()
	host, err := proxytest.EnrollHost(t, token)
	if err != nil {
		t.Fatal(err)
	}
	return host
}

// wantedAt is one agent certificate, always in the same place of a host.
func wantedAt(t testing.TB, host *remote.State, list ...string) remote.Wanted {
	return remote.Wanted{Names: proxytest.Names(t, list...), Mode: clients.ModeAgent, KeyType: cert.EC256, Out: filepath.Join(host.Dir, "out")}
}

// fetch gets a certificate and tells the stages on the way.
func fetch(t testing.TB, host *remote.State, list ...string) (*remote.Kept, []acme.Stage, error) {
	t.Helper()
	var stages []acme.Stage
	g, err := host.Getter(func(e acme.Event) { stages = append(stages, e.Stage) })
	if err != nil {
		t.Fatal(err)
	}
	k, err := g.Get(t.Context(), wantedAt(t, host, list...))
	return k, stages, err
}

func mustFetch(t testing.TB, host *remote.State, list ...string) (*remote.Kept, []acme.Stage) {
	t.Helper()
	k, stages, err := fetch(t, host, list...)
	if err != nil {
		t.Fatal(err)
	}
	return k, stages
}

// When several hosts of a client enrol one after another, one new certificate serves
// all of them, and no host waits an hour for it (X9).
func TestHostsShareAClient(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	first := p.Enroll(t, "lb", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	mustFetch(t, first, "www.example.com")
	second := enrolled(t, p.NewToken(t, "lb", admin.NewToken{}))
	third := enrolled(t, p.NewToken(t, "lb", admin.NewToken{}))
	made, stages := mustFetch(t, second, "www.example.com")
	if !slices.Contains(stages, remote.Locked) {
		t.Errorf("stages %v do not say why there is a new one", stages)
	}
	for _, host := range []*remote.State{third, first} {
		if k, stages := mustFetch(t, host, "www.example.com"); k.Serial != made.Serial || slices.Contains(stages, remote.Locked) {
			t.Errorf("serial %s after %v, want %s as it is", k.Serial, stages, made.Serial)
		}
	}
	if n := p.Orders(); n != 2 {
		t.Errorf("%d orders, want 2", n)
	}
	g, err := second.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Renew(t.Context(), wantedAt(t, second, "www.example.com"))
	proxytest.WantStatus(t, "a new one at will", err, http.StatusTooManyRequests)
	if err != nil && !strings.Contains(err.Error(), "try again after ") {
		t.Errorf("%q does not say when", err)
	}
}

// To get a certificate with renew is to have another key within the proxy's
// limits (X5).
func TestGetRenew(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	g, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	first, err := g.Renew(t.Context(), wantedAt(t, host, "a.example.com")) // the first one is new anyway
	if err != nil {
		t.Fatal(err)
	}
	clk.Advance(time.Hour)
	second, err := g.Renew(t.Context(), wantedAt(t, host, "a.example.com"))
	if err != nil || second.Serial == first.Serial {
		t.Fatalf("%v, %v; want another serial than %s", second, err, first.Serial)
	}
	if again, _ := mustFetch(t, host, "a.example.com"); again.Serial != second.Serial || p.Orders() != 2 {
		t.Errorf("serial %s after %d orders", again.Serial, p.Orders())
	}
	clk.Advance(2 * time.Hour)
	ca.Fail(http.StatusServiceUnavailable)
	if _, err := g.Renew(t.Context(), wantedAt(t, host, "a.example.com")); err == nil || !strings.Contains(err.Error(), "the proxy has no newer certificate yet") {
		t.Errorf("a renewal that failed: %v", err)
	}
	ca.PassAll()
	clk.Advance(time.Hour) // what failed before does not count as failing now
	if third, err := g.Renew(t.Context(), wantedAt(t, host, "a.example.com")); err != nil || third.Serial == second.Serial {
		t.Errorf("%v, %v", third, err)
	}
}

// A get while the proxy's renewals fail has the proxy try now, and reports the result.
// The certificate in use stays (X44).
func TestGetWhileRenewalFails(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	g, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	first, err := g.Get(t.Context(), wantedAt(t, host, "a.example.com"))
	if err != nil {
		t.Fatal(err)
	}
	ca.Fail(http.StatusServiceUnavailable)
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	failures := func() int {
		list, err := p.Admin.Client(t.Context(), "web1")
		if err != nil {
			t.Fatal(err)
		}
		return list.Certificates[0].Failures
	}
	watch.Until(t, "the renewal failed", func() bool { return failures() > 0 })
	p.CA.Requests().Reset()
	same, err := g.Get(t.Context(), wantedAt(t, host, "a.example.com"))
	if err == nil || !strings.Contains(err.Error(), "the proxy has no newer certificate yet: ") || same.Serial != first.Serial || p.CA.Requests().Count(pebbletest.Directory) == 0 {
		t.Errorf("%v, serial %s after %s", err, same.Serial, first.Serial)
	}
	ca.PassAll()
	if second, err := g.Get(t.Context(), wantedAt(t, host, "a.example.com")); err != nil || second.Serial == first.Serial {
		t.Errorf("%v, %v", second, err)
	}
}

// After a client's secrets were replaced, its old hosts have no access. The proxy
// sends no order for it until a host enrols, which then gets new certificates at once
// (A21, X9).
func TestTokenReplaces(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	token := p.AddClient(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	stolen := enrolled(t, token)
	old, _ := mustFetch(t, stolen, "a.example.com")
	unused := p.NewToken(t, "web1", admin.NewToken{})
	client, err := stolen.API()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Self(t.Context()); err != nil {
		t.Fatal(err)
	}

	p.NewToken(t, "web1", admin.NewToken{Replace: true})
	_, err = client.Self(t.Context())
	proxytest.WantStatus(t, "the old key on its old connection", err, http.StatusUnauthorized)
	_, err = proxytest.EnrollAgain(t, stolen, token)
	proxytest.WantStatus(t, "the old key with its token", err, http.StatusUnauthorized)
	_, err = proxytest.EnrollHost(t, unused)
	proxytest.WantStatus(t, "a token of before", err, http.StatusUnauthorized)
	c, err := p.Admin.Client(t.Context(), "web1")
	if err != nil || len(c.Recipients) != 0 || len(c.Credentials) != 1 || len(c.Certificates) != 1 || len(c.Grants) != 1 {
		t.Errorf("after the replacement: %+v, %v", c, err)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done"})
	if err != nil || !slices.ContainsFunc(page.Entries, func(e admin.AuditEntry) bool {
		return e.Action == "client token" && strings.Contains(e.Detail, "replacing all")
	}) {
		t.Errorf("audit: %+v, %v", page.Entries, err)
	}

	clk.Advance(61 * 24 * time.Hour) // the renewal is due, and no host could open it
	fresh := p.NewToken(t, "web1", admin.NewToken{Replace: true})
	p.Tick(t)
	watch.Until(t, "the renewal is given up", func() bool {
		c, err := p.Admin.Client(t.Context(), "web1")
		return err == nil && strings.Contains(c.Certificates[0].LastError, "acmeproxy clients token web1")
	})
	if n := p.Orders(); n != 1 {
		t.Errorf("%d orders without a recipient", n-1)
	}
	host := enrolled(t, fresh)
	k, _ := mustFetch(t, host, "a.example.com")
	if k.Serial == old.Serial || p.Orders() != 2 {
		t.Errorf("serial %s, was %s; %d orders", k.Serial, old.Serial, p.Orders())
	}
}

// A certificate that was revoked before all was replaced comes at once, too.
func TestTokenReplacesAfterARevocation(t *testing.T) {
	t.Parallel()
	for name, pause := range map[string]time.Duration{"in its pause": 0, "given up": 2 * time.Hour} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
			stolen := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
			old, _ := mustFetch(t, stolen, "a.example.com")
			if _, err := revokeKept(t, stolen, "a.example.com", false); err == nil {
				t.Fatal("obtained twice in an hour")
			}
			fresh := p.NewToken(t, "web1", admin.NewToken{Replace: true})
			clk.Advance(pause)
			p.Tick(t)
			host := enrolled(t, fresh)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			g, err := host.Getter(nil)
			if err != nil {
				t.Fatal(err)
			}
			if k, err := g.Get(ctx, wantedAt(t, host, "a.example.com")); err != nil || k.Serial == old.Serial || p.Orders() != 2 {
				t.Errorf("%+v after %d orders: %v", k, p.Orders(), err)
			}
		})
	}
}

// A host whose certificate was never obtained, because the client had no recipient,
// need not wait either.
func TestEnrolledAfterAFailure(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	ca.Fail(http.StatusServiceUnavailable)
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	id := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	if _, _, err := fetch(t, id, "a.example.com"); err == nil {
		t.Fatal("the CA is out of order")
	}
	fresh := p.NewToken(t, "web1", admin.NewToken{Replace: true})
	ca.PassAll()
	mustFetch(t, enrolled(t, fresh), "a.example.com")
}

// A recipient that was removed while a certificate was being obtained cannot open it.
// A recipient that was added can, and no second order is sent (A10, X9).
func TestRecipientsChangeInFlight(t *testing.T) {
	t.Parallel()
	newID, newRecipient := proxytest.NewIdentity(t)
	for name, change := range map[string]func(t *testing.T, p *proxytest.Proxy) (opens seal1){
		"replaced by a recipient": func(t *testing.T, p *proxytest.Proxy) seal1 {
			p.NewToken(t, "web1", admin.NewToken{Replace: true, Recipients: []string{newRecipient}})
			return func(bundle []byte) error { _, err := seal.Open(bundle, newID); return err }
		},
		"a host enrols": func(t *testing.T, p *proxytest.Proxy) seal1 {
			host := enrolled(t, p.NewToken(t, "web1", admin.NewToken{}))
			return func([]byte) error { return opensAsItIs(t, host) }
		},
		"replaced, and a host enrols later": func(t *testing.T, p *proxytest.Proxy) seal1 {
			token := p.NewToken(t, "web1", admin.NewToken{Replace: true})
			return func([]byte) error { return opensAsItIs(t, enrolled(t, token)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
			oldID, oldRecipient := proxytest.NewIdentity(t)
			c := p.NewCaller(t, "web1", []string{oldRecipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
			arrived, release := ca.Hold(t, pebbletest.Finalize)
			m := c.Register(t, "a.example.com")
			watch.Await(t, "the order is about to be finalized", arrived)
			opens := change(t, p)
			release()
			st, err := store.Open(t.Context(), proxy.StoreConfig(config.Serve{DataDir: p.DataDir}))
			if err != nil {
				t.Fatal(err)
			}
			defer st.Close()
			var bundle []byte
			watch.Until(t, "the work has ended", func() bool {
				b, err := st.BundleFor(t.Context(), m.ID)
				bundle = b.Ciphertext
				row, rowErr := st.ManagedByID(t.Context(), m.ID)
				return err == nil || rowErr == nil && row.Failures > 0
			})
			if err := opens(bundle); err != nil {
				t.Errorf("the new one cannot open it: %v", err)
			}
			if strings.HasPrefix(name, "replaced") {
				b, err := st.BundleFor(t.Context(), m.ID)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := seal.Open(b.Ciphertext, oldID); !errors.Is(err, seal.ErrNotForUs) {
					t.Errorf("the stolen identity opens the bundle: %v", err)
				}
			}
			if n := p.Orders(); n != 1 {
				t.Errorf("%d orders, want 1", n)
			}
		})
	}
}

// seal1 returns an error if a recipient cannot open a bundle.
type seal1 func(bundle []byte) error

func opensAsItIs(t *testing.T, host *remote.State) error {
	_, stages, err := fetch(t, host, "a.example.com")
	if slices.Contains(stages, remote.Locked) {
		return errors.New("it was sealed to others")
	}
	return err
}

// Bearer tokens are replaced the same way; faults are told with the remedy.
func TestBearerTokenReplaced(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	old := p.WithToken(t, p.Bearer(t, "script", proxytest.Grant(clients.ModeGateway, "*.example.com")))
	one, err := p.Admin.NewToken(t.Context(), "script", admin.NewToken{Secret: admin.Secret{Bearer: true}})
	if err != nil {
		t.Fatal(err)
	}
	two, err := p.Admin.NewToken(t.Context(), "script", admin.NewToken{Secret: admin.Secret{Bearer: true}, Replace: true})
	if err != nil {
		t.Fatal(err)
	}
	for c, want := range map[*proxytest.Caller]int{old: 401, p.WithToken(t, one.BearerToken): 401, p.WithToken(t, two.BearerToken): 200} {
		if r := c.Do(t, http.MethodGet, api.PathClient, nil); r.Status != want {
			t.Errorf("%d %s, want %d", r.Status, r.Body, want)
		}
	}
	_, recipient := proxytest.NewIdentity(t)
	for what, req := range map[string]admin.NewToken{
		"recipient": {Recipients: []string{recipient}, Secret: admin.Secret{Bearer: true}},
		"token_li":  {Secret: admin.Secret{URL: p.URL, TokenLife: admin.JSONDuration(time.Second)}},
		"url":       {},
	} {
		_, err := p.Admin.NewToken(t.Context(), "script", req)
		proxytest.WantStatus(t, what, err, http.StatusUnprocessableEntity)
		if err != nil && !strings.HasPrefix(err.Error(), what) {
			t.Errorf("%q does not name the field %s", err, what)
		}
	}
	_, err = p.Admin.NewToken(t.Context(), "nobody", admin.NewToken{Secret: admin.Secret{Bearer: true}})
	proxytest.WantStatus(t, "an unknown client", err, http.StatusNotFound)
}
