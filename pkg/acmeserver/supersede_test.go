package acmeserver_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// superseding is a scriptedCA that is told about superseded orders.
type superseding struct {
	*scriptedCA
	mu   sync.Mutex
	told []acmeserver.Order // guarded by mu
}

func (s *superseding) Superseded(_ context.Context, o acmeserver.Order) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, o)
}

// outage makes the CA fail until the returned function is called.
func (l *lab) outage(err error) (end func()) {
	l.ca.does(func(context.Context, issueRequest) (issued, error) { return issued{}, err })
	return func() { l.ca.does(nil) }
}

// During an outage of the CA, certbot runs again and again, each time with a new key. When
// the outage is over, its next run gets a certificate at once, and no other is issued.
func TestNewerOrderSupersedesDuringAnOutage(t *testing.T) { // X5, X26
	inLab(t, withShares, func(l *lab) {
		ca := &superseding{scriptedCA: l.ca}
		l.cfg.Issuer = ca
		end := l.outage(errors.New("down"))
		c := l.account(l.start())
		var all []orderDoc
		run := func() *labReply {
			l.Helper()
			o := c.newOrder("a.example.com")
			all = append(all, o)
			return c.finalize(o, rawacme.NewKey()).want(http.StatusOK)
		}
		for range 3 {
			run().order().is(l, acmeserver.StatusProcessing)
			l.wait(20 * time.Minute)
		}
		end()
		calls := len(l.ca.called())
		begin := time.Now()
		c.download(run().order().is(l, acmeserver.StatusValid))
		if took := time.Since(begin); took > time.Second {
			l.Errorf("the last run took %s", took)
		}
		l.wait(time.Hour)
		if n := len(l.ca.called()); n != calls+1 {
			l.Errorf("%d issuances after the outage", n-calls)
		}
		for _, o := range all[:3] {
			got := c.read(o).is(l, acmeserver.StatusInvalid)
			if got.Error == nil || !strings.Contains(got.Error.Detail, "the order is superseded") {
				l.Errorf("error %+v", got.Error)
			}
		}
		if len(ca.told) != 3 || ca.told[0].ID != l.stored(all[0]).ID {
			l.Errorf("the issuer was told about %d superseded orders", len(ca.told))
		}
	})
}

// An order that waits behind a failing one is superseded, too, and so is the failing one if
// it was being tried when the newer one came.
func TestWaitingOrdersAreSuperseded(t *testing.T) { // X5
	inLab(t, withShares, func(l *lab) {
		l.ca.does(func(context.Context, issueRequest) (issued, error) {
			<-time.After(30 * time.Second)
			return issued{}, errors.New("no connection")
		})
		c := l.account(l.start())
		var all []orderDoc
		for range 3 { // the first attempt is in progress
			o := c.newOrder("a.example.com")
			c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
			all = append(all, o)
		}
		l.wait(2 * time.Minute)
		l.ca.does(nil)
		l.wait(10 * time.Minute)
		for i, status := range []acmeserver.Status{acmeserver.StatusInvalid, acmeserver.StatusInvalid, acmeserver.StatusValid} {
			c.read(all[i]).is(l, status)
		}
		for _, r := range l.ca.called() {
			if r.Order.ID == l.stored(all[1]).ID {
				l.Error("the issuer was called for an order that no client waits for")
			}
		}
	})
}

// Orders that may be known elsewhere, of the same key, or of another account are not
// superseded. They are tried at once.
func TestNewerOrderWakes(t *testing.T) { // X5
	for name, saves := range map[string]bool{"at the CA": true, "same key": false, "another account": false} {
		t.Run(name, func(t *testing.T) {
			inLab(t, withShares, func(l *lab) {
				fails := true
				l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
					if saves && r.Order.State == nil {
						if err := r.Save(ctx, []byte("order of "+r.Order.ID)); err != nil {
							return issued{}, err
						}
					}
					if fails {
						return issued{}, errors.New("down")
					}
					return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
				})
				c := l.account(l.start())
				next, key, nextKey := c, rawacme.NewKey(), rawacme.NewKey()
				switch name {
				case "same key":
					nextKey = key
				case "another account":
					next = l.account(c.at)
				}
				first := c.newOrder("a.example.com")
				c.finalize(first, key)
				l.wait(20 * time.Minute) // its next attempt is minutes away
				fails = false
				begin := time.Now()
				second := next.newOrder("a.example.com")
				next.download(next.finalize(second, nextKey).want(http.StatusOK).order().is(l, acmeserver.StatusValid))
				if took := time.Since(begin); took > time.Second {
					l.Errorf("the second order took %s", took)
				}
				c.download(c.read(first).is(l, acmeserver.StatusValid))
			})
		})
	}
}

// An issuer that asked to wait is not called earlier, whatever is ordered meanwhile.
func TestNewerOrderRespectsTheIssuersWait(t *testing.T) { // X5
	for _, same := range []bool{false, true} {
		t.Run(fmt.Sprintf("same key %t", same), func(t *testing.T) {
			inLab(t, withShares, func(l *lab) {
				end := l.outage(&acmeserver.Later{After: time.Minute, Reason: "rate limit"})
				c := l.account(l.start())
				key := rawacme.NewKey()
				first := c.newOrder("a.example.com")
				c.finalize(first, key)
				end()
				l.wait(10 * time.Second)
				last := c.newOrder("a.example.com")
				if !same {
					key = rawacme.NewKey()
				}
				c.finalize(last, key).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
				l.wait(2 * time.Minute)
				c.read(last).is(l, acmeserver.StatusValid)
				l.delays(l.ca.times, 60)
				want := acmeserver.StatusInvalid
				if same {
					want = acmeserver.StatusValid
				}
				c.read(first).is(l, want)
			})
		})
	}
}

// While the CA works, orders with other keys have their turns: several hosts may have the
// same name.
func TestNothingIsSupersededWhileTheCAWorks(t *testing.T) { // X5
	inLab(t, withShares, func(l *lab) {
		l.ca.slow(time.Minute)
		c := l.account(l.start())
		var all []orderDoc
		for range 3 {
			o := c.newOrder("a.example.com")
			c.finalize(o, rawacme.NewKey())
			all = append(all, o)
		}
		l.wait(5 * time.Minute)
		for _, o := range all {
			c.read(o).is(l, acmeserver.StatusValid)
		}
	})
}

// Events about an order say whose it is (X26).
func TestLogOfOrders(t *testing.T) {
	inLab(t, withShares, func(l *lab) {
		var log strings.Builder
		l.cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
		l.outage(errors.New("down"))
		c := l.account(l.start())
		for range 2 {
			c.finalize(c.newOrder("a.example.com"), rawacme.NewKey())
		}
		l.wait(time.Second)
		whose := fmt.Sprintf(`owner="" account=%s names=a.example.com`, path.Base(c.kid))
		for _, event := range []string{`level=WARN msg="the issuer failed"`, `level=INFO msg="an order was superseded"`} {
			found := false
			for line := range strings.Lines(log.String()) {
				found = found || strings.Contains(line, event) && strings.Contains(line, whose)
			}
			if !found {
				t.Errorf("no %s with %s in\n%s", event, whose, &log)
			}
		}
	})
}

// A superseded order answers a repeated finalize with the reason.
func TestFinalizeSupersededAgain(t *testing.T) { // X26
	inLab(t, withShares, func(l *lab) {
		l.outage(errors.New("down"))
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		csr := rawacme.Fields{"csr": csrFor(l, rawacme.NewKey(), "a.example.com")}
		c.send(o.Finalize, csr).want(http.StatusOK)
		c.finalize(c.newOrder("a.example.com"), rawacme.NewKey()).want(http.StatusOK)
		c.send(o.Finalize, csr).refused(acme.ServerInternal, http.StatusForbidden)
	})
}
