package acmeserver_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// A Server is killed after the issuer saved its state. Another one calls the issuer with
// that state when the lease has ended (C14).
func TestKilledWhileIssuing(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		first := l.start()
		l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
			if r.Order.State != nil {
				return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
			}
			if err := r.Save(ctx, []byte("https://upstream.example/order/1")); err != nil {
				return issued{}, err
			}
			<-ctx.Done()
			return issued{}, ctx.Err()
		})
		c := l.account(first)
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		first.kill()
		c.at = l.start()
		l.wait(10 * time.Second)
		c.read(o).is(l, acmeserver.StatusProcessing)
		l.wait(time.Minute)
		c.download(c.read(o).is(l, acmeserver.StatusValid))
		if calls := l.ca.called(); len(calls) != 2 || string(calls[1].Order.State) != "https://upstream.example/order/1" ||
			calls[1].Order.ID != calls[0].Order.ID || calls[1].Account.ID != calls[0].Account.ID || calls[1].Addr.String() != "192.0.2.7" {
			l.Errorf("calls %+v", calls)
		}
	})
}

// Killed before the issuer was called, and after it returned.
func TestKilledAroundIssuing(t *testing.T) {
	for _, after := range []bool{false, true} {
		inLab(t, nil, func(l *lab) {
			first := l.start()
			l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
				if first.kill(); !after && len(l.ca.called()) == 1 {
					return issued{}, errDead
				}
				return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
			})
			c := l.account(first)
			o := c.newOrder("a.example.com")
			c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
			c.at = l.start()
			l.wait(2 * time.Minute)
			c.download(c.read(o).is(l, acmeserver.StatusValid))
			if n := len(l.ca.called()); n != 2 {
				l.Errorf("%d calls", n)
			}
		})
	}
}

// A Server that stops in order gives its orders to another one: those that finalize
// began, and those that the loop continues.
func TestStoppedWhileIssuing(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
			if r.Order.Failures == 0 && r.CSR.Names[0] == "loop.example.com" {
				return issued{}, errors.New("again, please")
			}
			<-ctx.Done()
			return issued{}, ctx.Err()
		})
		first := l.start()
		c := l.account(first)
		inline, byLoop := c.newOrder("inline.example.com"), c.newOrder("loop.example.com")
		c.finalize(inline, rawacme.NewKey())
		c.finalize(byLoop, rawacme.NewKey())
		l.wait(10 * time.Second)
		if n := len(l.ca.called()); n != 3 {
			l.Fatalf("%d calls", n)
		}
		c.at = l.start()
		begin := time.Now()
		first.stop()
		<-first.done
		if took := time.Since(begin); took != work.Grace {
			l.Errorf("the stop took %s", took)
		}
		l.ca.does(nil)
		l.wait(10 * time.Second) // no lease delays it
		c.read(inline).is(l, acmeserver.StatusValid)
		c.read(byLoop).is(l, acmeserver.StatusValid)
		// The first one still serves, but it begins nothing.
		c.at = first
		o := c.newOrder("c.example.com")
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		l.wait(10 * time.Second)
		c.read(o).is(l, acmeserver.StatusValid)
	})
}

// An instance that could not extend its lease ends its call of the issuer when another one
// has the order.
func TestLostLease(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		var ended time.Time
		l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
			if len(l.ca.called()) > 1 {
				<-time.After(5 * time.Minute)
				return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
			}
			<-ctx.Done()
			ended = time.Now()
			if err := r.Save(context.WithoutCancel(ctx), []byte("state")); err == nil {
				l.Error("Save without a lease")
			}
			return issued{}, ctx.Err()
		})
		first := l.start()
		c := l.account(first)
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey())
		first.kill()
		c.at = l.start()
		l.wait(40 * time.Second)
		if n := len(l.ca.called()); n != 2 || !ended.IsZero() {
			l.Fatalf("%d calls, the first one ended at %v", n, ended)
		}
		first.storage.dead.Store(false) // it was only suspended
		l.wait(10 * time.Second)
		if ended.IsZero() {
			l.Error("the first call continues")
		}
		l.wait(5 * time.Minute)
		c.download(c.read(o).is(l, acmeserver.StatusValid))
		if n := len(l.ca.called()); n != 2 {
			l.Errorf("%d calls", n)
		}
	})
}

// A certificate is stored although its instance has lost the lease.
func TestCertificateAfterALostLease(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
			if len(l.ca.called()) == 1 {
				<-ctx.Done()
				return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
			}
			<-ctx.Done()
			return issued{}, ctx.Err()
		})
		first := l.start()
		c := l.account(first)
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey())
		first.kill()
		c.at = l.start()
		l.wait(40 * time.Second)
		first.storage.dead.Store(false) // it was only suspended
		l.wait(20 * time.Second)
		c.download(c.read(o).is(l, acmeserver.StatusValid))
		if n := len(l.ca.called()); n != 2 {
			l.Errorf("%d calls", n)
		}
	})
}

// stored returns an order as it is stored.
func (l *lab) stored(o orderDoc) acmeserver.Order {
	l.Helper()
	stored, err := l.cfg.Storage.Order(l.Context(), o.URL[len(l.cfg.URL+"/order/"):])
	if err != nil {
		l.Fatal(err)
	}
	return stored
}

// What an issuer answers decides when it is called again.
func TestIssuerIsCalledAgain(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Limits.OrderLife = 10 * time.Minute }, func(l *lab) {
		answers := []error{
			errors.New("down"), errors.New("down"), &acmeserver.Later{After: time.Minute},
			errors.New("down"), &acmeserver.Later{}, fmt.Errorf("wrapped: %w", &acmeserver.Later{}),
		}
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			if n := len(l.ca.called()); n <= len(answers) {
				return issued{}, answers[n-1]
			}
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		l.wait(3 * time.Minute)
		c.read(o).is(l, acmeserver.StatusValid)
		l.delays(l.ca.times, 1, 2, 60, 4, 8, 16)

		l.ca.does(func(context.Context, issueRequest) (issued, error) { return issued{}, errors.New("down") })
		begin := len(l.ca.times)
		o = c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey())
		l.wait(10 * time.Minute)
		c.read(o).is(l, acmeserver.StatusInvalid)
		if stored := l.stored(o); stored.Status != acmeserver.StatusInvalid || stored.Error == nil || stored.Issuing {
			l.Errorf("order %+v", stored)
		}
		l.delays(l.ca.times[begin:], 1, 2, 4, 8, 16, 32, 64, 128, 256)
	})
}

// delays compares the waits between some times, in seconds.
func (l *lab) delays(times []time.Time, want ...int) {
	l.Helper()
	var got []int
	for i := range len(times) - 1 {
		got = append(got, int(times[i+1].Sub(times[i]).Seconds()))
	}
	if !slices.Equal(got, want) {
		l.Errorf("delays %v, want %v", got, want)
	}
}

// An issuer without sense is not called for ever, and its certificates reach no client.
func TestNonsensicalIssuer(t *testing.T) {
	other := rawacme.NewKey()
	for name, issue := range map[string]func(ca *scriptedCA, r issueRequest) (issued, error){
		"panic":   func(*scriptedCA, issueRequest) (issued, error) { panic("secret") },
		"nothing": func(*scriptedCA, issueRequest) (issued, error) { return issued{}, nil },
		"another key": func(ca *scriptedCA, r issueRequest) (issued, error) {
			return ca.sign(other.Public(), r.CSR.Names...), nil
		},
		"another name": func(ca *scriptedCA, r issueRequest) (issued, error) {
			return ca.sign(r.CSR.Public, "evil.example.com"), nil
		},
		"a further name": func(ca *scriptedCA, r issueRequest) (issued, error) {
			return ca.sign(r.CSR.Public, append(r.CSR.Names, "evil.example.com")...), nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			inLab(t, nil, func(l *lab) {
				l.ca.does(func(_ context.Context, r issueRequest) (issued, error) { return issue(l.ca, r) })
				c := l.account(l.start())
				o := c.newOrder("a.example.com")
				c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
				l.wait(time.Minute)
				if got := c.read(o).is(l, acmeserver.StatusInvalid); got.Error.Type != acme.ServerInternal || got.Certificate != "" {
					l.Errorf("order %+v", got)
				}
				l.delays(l.ca.times, 1, 2, 4)
			})
		})
	}
}

// Two Servers over one storage issue each order once.
func TestTwoServers(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		sites := []*site{l.start(), l.start()}
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			if r.Order.Failures == 0 {
				return issued{}, errors.New("again, please")
			}
			<-time.After(40 * time.Second) // longer than a lease
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(sites[0])
		var all []orderDoc
		for i := range 20 {
			c.at = sites[i%2]
			o := c.newOrder("a.example.com")
			c.at = sites[(i+1)%2]
			c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
			all = append(all, o)
		}
		l.wait(2 * time.Minute)
		for i, o := range all {
			c.at = sites[i%2]
			c.download(c.read(o).is(l, acmeserver.StatusValid))
		}
		if n := len(l.ca.called()); n != 40 {
			l.Errorf("%d calls of the issuer for 20 orders with one failure each", n)
		}
	})
}

// Others change an order at the same time.
func TestStaleOrders(t *testing.T) {
	inLab(t, challenged(func(context.Context, acmeserver.Validation) error { return nil }), func(l *lab) {
		s := l.start()
		c := l.account(s)
		o := c.newOrder("a.example.com")
		s.storage.stale.Store(5)
		challenge := c.authorization(o.Authorizations[0]).Challenges[0].URL
		c.send(challenge, rawacme.Fields{}).want(http.StatusOK)
		s.storage.stale.Store(5)
		l.wait(time.Second)
		c.read(o).is(l, acmeserver.StatusReady)
		s.storage.stale.Store(100)
		r := c.finalize(o, rawacme.NewKey())
		if r.refused(acme.ServerInternal, http.StatusServiceUnavailable); r.Header().Get("Retry-After") == "" {
			l.Error("no Retry-After")
		}
		s.storage.stale.Store(5)
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
	})
}

// A storage that fails for some seconds costs no certificate.
func TestStorageFailsWhileIssuing(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		s := l.start()
		l.ca.does(func(_ context.Context, r issueRequest) (issued, error) {
			s.storage.dead.Store(true)
			time.AfterFunc(10*time.Second, func() { s.storage.dead.Store(false) })
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		c := l.account(s)
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		l.wait(20 * time.Second)
		c.download(c.read(o).is(l, acmeserver.StatusValid))
		if n := len(l.ca.called()); n != 1 {
			l.Errorf("%d issuances", n)
		}
	})
}

// owners gives each account an owner of its own.
type owners struct {
	acmeserver.AnyAccount
	n atomic.Int64
}

func (o *owners) Admit(context.Context, acmeserver.NewAccount) (string, error) {
	return fmt.Sprint(o.n.Add(1)), nil
}

// An owner whose issuances do not end delays no other owner.
func TestIssuancesAreShared(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Limits.Issuances, c.Accounts = 4, new(owners) }, func(l *lab) {
		var most, now atomic.Int64
		l.ca.does(func(ctx context.Context, r issueRequest) (issued, error) {
			if r.Order.Owner != "1" {
				return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
			}
			most.Store(max(most.Load(), now.Add(1)))
			defer now.Add(-1)
			select {
			case <-time.After(5 * time.Minute):
			case <-ctx.Done():
				return issued{}, ctx.Err()
			}
			return l.ca.sign(r.CSR.Public, r.CSR.Names...), nil
		})
		s := l.start()
		slow, other := l.account(s), l.account(s)
		var all []orderDoc
		for range 10 {
			all = append(all, slow.newOrder("a.example.com"))
			slow.finalize(all[len(all)-1], rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusProcessing)
		}
		synctest.Wait()
		other.finalize(other.newOrder("b.example.com"), rawacme.NewKey()).want(http.StatusOK).order().is(l, acmeserver.StatusValid)
		l.wait(30 * time.Minute)
		for _, o := range all {
			slow.read(o).is(l, acmeserver.StatusValid)
		}
		if most.Load() != 3 {
			l.Errorf("the slow owner had %d of 4 places, want 3", most.Load())
		}
	})
}

// An account that was deactivated gets no certificate.
func TestDeactivatedAccount(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.does(func(context.Context, issueRequest) (issued, error) { return issued{}, errors.New("down") })
		s := l.start()
		c := l.account(s)
		o := c.newOrder("a.example.com")
		c.finalize(o, rawacme.NewKey())
		c.send(c.kid, rawacme.Fields{"status": "deactivated"}).want(http.StatusOK)
		l.ca.does(nil)
		l.wait(10 * time.Minute)
		if stored := l.stored(o); stored.Status != acmeserver.StatusInvalid || stored.Error.Type != acme.Unauthorized {
			l.Errorf("order %+v", stored)
		}
	})
}
