package remote_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// revokeKept revokes what a host keeps for one name.
func revokeKept(t testing.TB, host *remote.State, name string, forget bool) (*remote.Revoked, error) {
	t.Helper()
	k, err := host.KeptAs(proxytest.Names(t, name), "")
	if err != nil {
		t.Fatal(err)
	}
	g, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return g.Revoke(t.Context(), k, cert.KeyCompromise, forget)
}

// keepFresh runs the daemon until a condition holds.
func keepFresh(t testing.TB, host *remote.State, what string, ok func() bool) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- remote.Run(ctx, remote.RunConfig{State: host, Poll: time.Second, Logger: slog.New(slog.DiscardHandler)})
	}()
	watch.Until(t, what, ok)
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// In both modes the certificate of this host's disk is revoked and replaced,
// with another key.
func TestRemoteRevokes(t *testing.T) {
	t.Parallel()
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
			host := p.Enroll(t, "web1", proxytest.Grant(mode, "*.example.com"))
			k, err := proxytest.Get(t, host, mode, "a.example.com")
			if err != nil {
				t.Fatal(err)
			}
			old := proxytest.OnDisk(t, k.Out)
			clk.Advance(2 * time.Hour) // no certificate of an agent's is obtained twice in an hour
			done, err := revokeKept(t, host, "a.example.com", false)
			if err != nil {
				t.Fatal(err)
			}
			p.WantRevoked(t, old, true, cert.KeyCompromise)
			now := proxytest.OnDisk(t, k.Out)
			if done.Serial != old.Serial() || done.Certificate == nil || done.Certificate.Serial != now.Serial() || now.Serial() == old.Serial() {
				t.Errorf("%+v; on the disk %s, before %s", done, now.Serial(), old.Serial())
			}
			if cert.SameKey(now.Key.Public(), old.Key.Public()) {
				t.Error("the key is the old one")
			}
			p.WantRevoked(t, now, false, "")
			if k, err := host.KeptAs(proxytest.Names(t, "a.example.com"), mode); err != nil || k.Revoked != "" || k.Revoking != nil {
				t.Errorf("%+v, %v", k, err)
			}
		})
	}
}

// An agent's certificate that was obtained a short while ago is revoked, and
// replaced when the proxy may: the error says that, and the daemon does it.
func TestRemoteRevokesTooSoon(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	k, err := proxytest.Get(t, host, clients.ModeAgent, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	old := proxytest.OnDisk(t, k.Out)
	for range 2 { // to repeat it does no harm
		done, err := revokeKept(t, host, "a.example.com", false)
		var late *remote.ReplaceError
		if !errors.As(err, &late) || done == nil || done.Certificate != nil || !strings.Contains(err.Error(), "IS revoked") {
			t.Fatalf("%+v, %v", done, err)
		}
	}
	if n := p.CA.Requests().Count(pebbletest.RevokeCert); n != 1 {
		t.Errorf("the CA was asked %d times", n)
	}
	p.WantRevoked(t, old, true, cert.KeyCompromise)
	clk.Advance(2 * time.Hour)
	p.Renewals.Wake()
	keepFresh(t, host, "another certificate is on the disk", func() bool { return proxytest.OnDisk(t, k.Out).Serial() != old.Serial() })
}

// Wherever a revocation breaks off, the daemon brings it to its end: revoked,
// and replaced. A certificate that was not revoked is not replaced.
func TestRemoteRevokeBreaksOff(t *testing.T) {
	t.Parallel()
	lost := func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) == pebbletest.RevokeCert { // the request succeeds, but its answer is lost
			next.ServeHTTP(httptest.NewRecorder(), r)
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	}
	for name, tc := range map[string]struct {
		fault func(*pebbletest.Fault)
		known bool // the caller learns that it is revoked
	}{
		"before the CA is asked":      {func(f *pebbletest.Fault) { f.Fail(http.StatusServiceUnavailable, pebbletest.RevokeCert) }, false},
		"before the CA has answered":  {func(f *pebbletest.Fault) { f.Set(lost) }, false},
		"before there is another one": {func(f *pebbletest.Fault) { f.Fail(http.StatusServiceUnavailable, pebbletest.NewOrder) }, true},
	} {
		for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
			if tc.known && mode == clients.ModeAgent {
				continue // that is TestRemoteRevokesTooSoon
			}
			t.Run(name+"/"+string(mode), func(t *testing.T) {
				t.Parallel()
				var clk proxytest.Clock
				var ca pebbletest.Fault
				p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
				host := p.Enroll(t, "web1", proxytest.Grant(mode, "*.example.com"))
				k, err := proxytest.Get(t, host, mode, "a.example.com")
				if err != nil {
					t.Fatal(err)
				}
				old := proxytest.OnDisk(t, k.Out)
				clk.Advance(2 * time.Hour)
				tc.fault(&ca)
				_, err = revokeKept(t, host, "a.example.com", false)
				var late *remote.ReplaceError
				if err == nil || errors.As(err, &late) != tc.known {
					t.Fatalf("%v", err)
				}
				if got := proxytest.OnDisk(t, k.Out); got.Serial() != old.Serial() {
					t.Error("replaced already")
				}
				ca.PassAll()
				keepFresh(t, host, "another certificate is on the disk", func() bool {
					clk.Advance(time.Minute) // over the proxy's pauses
					p.Renewals.Wake()
					return proxytest.OnDisk(t, k.Out).Serial() != old.Serial()
				})
				p.WantRevoked(t, old, true, cert.KeyCompromise)
				p.WantRevoked(t, proxytest.OnDisk(t, k.Out), false, "")
			})
		}
	}
}

// A refusal leaves everything as it was; the daemon does not ask again.
func TestRemoteRevokeRefused(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	if _, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com"); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Admin.SetDisabled(t.Context(), "web1", true); err != nil {
		t.Fatal(err)
	}
	_, err := revokeKept(t, host, "a.example.com", false)
	proxytest.WantStatus(t, "a disabled client", err, http.StatusUnauthorized)
	k, err := host.KeptAs(proxytest.Names(t, "a.example.com"), "")
	if err != nil || k.Revoking != nil || k.Revoked != "" {
		t.Errorf("%+v, %v", k, err)
	}
	p.WantRevoked(t, proxytest.OnDisk(t, k.Out), false, "")
}

// The daemon continues a revocation that may be asked for later only: what was
// lost may have been the answer that it is done.
func TestRemoteRevokeNotNow(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	grant := proxytest.Grant(clients.ModeGateway, "*.example.com")
	grant.DailyQuota = 2
	host := p.Enroll(t, "web1", grant)
	k, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	old := proxytest.OnDisk(t, k.Out)
	ca.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if pebbletest.Kind(r) == pebbletest.RevokeCert {
			next.ServeHTTP(httptest.NewRecorder(), r)
			http.Error(w, "out of order", http.StatusInternalServerError)
			return
		}
		next.ServeHTTP(w, r)
	})
	_, err = revokeKept(t, host, "a.example.com", false)
	proxytest.WantStatus(t, "the answer is lost", err, http.StatusServiceUnavailable)
	ca.PassAll()
	_, err = revokeKept(t, host, "a.example.com", false)
	proxytest.WantStatus(t, "the quota is used up", err, http.StatusTooManyRequests)
	clk.Advance(24 * time.Hour)
	keepFresh(t, host, "another certificate is on the disk", func() bool { return proxytest.OnDisk(t, k.Out).Serial() != old.Serial() })
	p.WantRevoked(t, old, true, cert.KeyCompromise)
}

// What a renewal brings while the old certificate is being revoked is put in its
// place at once.
func TestRemoteRevokesDuringARenewal(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	k, err := proxytest.Get(t, host, clients.ModeAgent, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	old := proxytest.OnDisk(t, k.Out)
	arrived, release := ca.Hold(t, pebbletest.RevokeCert)
	type result struct {
		*remote.Revoked
		error
	}
	done := make(chan result, 1)
	go func() {
		r, err := revokeKept(t, host, "a.example.com", false)
		done <- result{r, err}
	}()
	watch.Await(t, "the CA is asked to revoke", arrived)
	clk.Advance(61 * 24 * time.Hour)
	p.Renewals.Wake()
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	watch.Until(t, "the proxy has a newer one", func() bool {
		m, err := client.Certificate(t.Context(), k.ID)
		return err == nil && m.Serial != old.Serial()
	})
	release()
	if r := <-done; r.error != nil || r.Certificate == nil || r.Certificate.Serial == old.Serial() {
		t.Errorf("%+v, %v", r.Revoked, r.error)
	}
	p.WantRevoked(t, old, true, cert.KeyCompromise)
	p.WantRevoked(t, proxytest.OnDisk(t, k.Out), false, "")
}

// Who gets a certificate after all is not made to forget it by a revocation that
// was interrupted; that is still brought to its end.
func TestRemoteGetsWhatItWasToForget(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	var ca pebbletest.Fault
	p := proxytest.Start(t, proxytest.Options{Change: clk.On(), Pebble: pebbletest.Options{Wrap: ca.Wrap}})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.example.com"))
	k, err := proxytest.Get(t, host, clients.ModeGateway, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	old := proxytest.OnDisk(t, k.Out)
	ca.Fail(http.StatusServiceUnavailable, pebbletest.RevokeCert)
	if _, err := revokeKept(t, host, "a.example.com", true); err == nil {
		t.Fatal("the CA is out of order")
	}
	ca.PassAll()
	k, err = proxytest.Get(t, host, clients.ModeGateway, "a.example.com")
	if err != nil {
		t.Fatal(err)
	}
	keepFresh(t, host, "the old one is revoked", func() bool {
		_, revoked := p.CA.Revoked(old.Leaf.SerialNumber)
		return revoked
	})
	if now, err := host.KeptAs(proxytest.Names(t, "a.example.com"), ""); err != nil || now.Serial != k.Serial {
		t.Errorf("%+v, %v", now, err)
	}
}

// With forget nothing is kept for the host any more, and its files stay; also
// when the proxy has a newer certificate than the host.
func TestRemoteRevokesAndForgets(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"), proxytest.Grant(clients.ModeGateway, "*.example.org"))
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		mode  clients.Mode
		name  string
		newer bool
	}{{clients.ModeAgent, "a.example.com", false}, {clients.ModeAgent, "b.example.com", true}, {clients.ModeGateway, "a.example.org", false}} {
		k, err := proxytest.Get(t, host, tc.mode, tc.name)
		if err != nil {
			t.Fatal(err)
		}
		old := proxytest.OnDisk(t, k.Out)
		if tc.newer {
			clk.Advance(61 * 24 * time.Hour)
			p.Renewals.Wake()
			watch.Until(t, "the proxy has a newer one", func() bool {
				m, err := client.Certificate(t.Context(), k.ID)
				return err == nil && m.Serial != old.Serial()
			})
		}
		orders := p.CA.Requests().Count(pebbletest.NewOrder)
		if done, err := revokeKept(t, host, tc.name, true); err != nil || done.Certificate != nil {
			t.Fatalf("%s: %+v, %v", tc.name, done, err)
		}
		p.WantRevoked(t, old, true, cert.KeyCompromise)
		if proxytest.OnDisk(t, k.Out).Serial() != old.Serial() {
			t.Errorf("%s: the files changed", tc.name)
		}
		if _, err := host.KeptAs(proxytest.Names(t, tc.name), ""); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is still kept: %v", tc.name, err)
		}
		p.Tick(t)
		if n := p.CA.Requests().Count(pebbletest.NewOrder); n != orders {
			t.Errorf("%s: ordered again", tc.name)
		}
	}
	if all, err := client.Certificates(t.Context()); err != nil || len(all) != 0 {
		t.Errorf("the proxy still keeps %+v, %v", all, err)
	}
}
