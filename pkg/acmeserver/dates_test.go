package acmeserver_test

import (
	"context"
	"errors"
	"net/http"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// wrongClock is how far the clock of a lab is ahead. It may be used concurrently.
type wrongClock struct{ ahead atomic.Int64 }

func (c *wrongClock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load())) }

// A host has a clock that is years ahead until it asked a time server. Nothing of that
// time keeps names waiting when the clock is right (C12).
func TestClockAhead(t *testing.T) {
	t.Parallel()
	const years = 12 * 365 * 24 * time.Hour
	var clock wrongClock
	var log logs
	inLab(t, func(c *acmeserver.Config) {
		withShares(c)
		c.Now, c.Logger = clock.now, log.logger()
	}, func(l *lab) {
		first := l.start()
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			if r.CSR.Names[0] == "b.example.com" {
				first.kill() // while it has the lease
			}
			if clock.ahead.Load() != 0 {
				return issued{}, errors.New("the CA's certificate is not valid")
			}
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(first)
		clock.ahead.Store(int64(years))
		ready, started, killed := c.newOrder("c.example.com"), c.newOrder("a.example.com"), c.newOrder("b.example.com")
		c.finalize(started, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		c.finalize(killed, rawacme.NewKey())
		l.wait(time.Second)
		left, err := l.cfg.Storage.Order(l.Context(), path.Base(killed.URL))
		if err != nil || left.LeaseOwner == "" {
			l.Fatalf("order %+v, %v: want a lease", left, err)
		}
		clock.ahead.Store(0)
		c.at = l.start()
		c.read(ready).is(l, acmeserver.StatusInvalid)
		if status := c.authorization(ready.Authorizations[0]).Status; status != acmeserver.StatusExpired {
			l.Errorf("authorization is %s", status)
		}
		c.finalize(ready, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
		var orders []orderDoc
		for _, name := range []string{"a.example.com", "b.example.com"} {
			o := c.newOrder(name)
			c.finalize(o, rawacme.NewKey()).want(http.StatusOK)
			orders = append(orders, o)
		}
		l.wait(2 * time.Minute)
		for _, o := range orders {
			c.download(c.read(o).is(l, acmeserver.StatusValid))
		}
		l.wait(6 * time.Minute)
		for _, o := range []orderDoc{ready, started, killed} {
			c.send(o.URL, nil).refused(acme.Malformed, http.StatusNotFound)
		}
		if want := "orders were dated in the future"; !strings.Contains(log.take(), want) {
			l.Errorf("the log does not have %q", want)
		}
	})
}

// A certificate of a CA whose clock was ahead, too, is not handed out again (X5).
func TestClockOfTheCAAhead(t *testing.T) {
	t.Parallel()
	var clock wrongClock
	inLab(t, func(c *acmeserver.Config) {
		withShares(c)
		c.Now = clock.now
	}, func(l *lab) {
		c := l.account(l.start())
		key := rawacme.NewKey()
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			return l.ca.signFrom(clock.now(), r.CSR.Public, r.CSR.Names...), nil
		})
		for _, ahead := range []time.Duration{365 * 24 * time.Hour, 0} {
			clock.ahead.Store(int64(ahead))
			o := c.finalize(c.newOrder("a.example.com"), key).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
			if leaf := c.download(o); leaf.NotBefore.After(clock.now()) {
				l.Errorf("the certificate is valid from %s", leaf.NotBefore)
			}
		}
	})
}
