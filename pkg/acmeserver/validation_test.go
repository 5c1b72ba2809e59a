package acmeserver_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// begin asks for the validation of the first challenge of an authorization.
func (c *caller) begin(authorization string) challengeDoc {
	c.l.Helper()
	a := c.authorization(authorization)
	var ch challengeDoc
	c.send(a.Challenges[0].URL, rawacme.Fields{}).want(http.StatusOK).into(&ch)
	return ch
}

// A validator that has no answer is called again until the authorization expires.
func TestValidatorNeverAnswers(t *testing.T) { // C10
	var times []time.Time
	inLab(t, func(c *acmeserver.Config) {
		challenged(func(_ context.Context, v acmeserver.Validation) error {
			if v.Attempts != len(times) {
				return &acme.Problem{Type: acme.ServerInternal, Detail: "another number of attempts"}
			}
			times = append(times, time.Now())
			if len(times)%2 == 0 {
				return errors.New("resolver down")
			}
			return &acmeserver.Later{Reason: "the administrator is asleep"}
		})(c)
		c.Limits.OrderLife = 20 * time.Minute
	}, func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		c.begin(o.Authorizations[0])
		l.wait(19 * time.Minute)
		if a := c.authorization(o.Authorizations[0]); a.Status != acmeserver.StatusPending || a.Challenges[0].Status != acmeserver.StatusProcessing {
			l.Errorf("authorization %+v", a)
		}
		l.wait(time.Hour)
		c.read(o).is(l, acmeserver.StatusInvalid)
		if a := c.authorization(o.Authorizations[0]); a.Status != acmeserver.StatusExpired {
			l.Errorf("authorization %+v", a)
		}
		l.delays(times, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300)
	})
}

// The validator chooses the delay, and a client may ask earlier, but not at will.
func TestValidatorAnswersLater(t *testing.T) {
	var times []time.Time
	inLab(t, challenged(func(context.Context, acmeserver.Validation) error {
		if times = append(times, time.Now()); len(times) < 4 {
			return &acmeserver.Later{After: 10 * time.Minute}
		}
		return nil
	}), func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("a.example.com")
		c.begin(o.Authorizations[0])
		l.wait(10 * time.Minute)
		l.wait(time.Minute)
		for range 4 {
			c.begin(o.Authorizations[0])
			l.wait(time.Second)
		}
		l.wait(time.Minute)
		c.read(o).is(l, acmeserver.StatusPending)
		l.wait(time.Hour)
		c.read(o).is(l, acmeserver.StatusReady)
		l.delays(times, 600, 65, 600)
	})
}

// Each authorization ends with a result of its own, although the first failure decides
// about the order.
func TestFailedValidations(t *testing.T) {
	inLab(t, challenged(func(ctx context.Context, v acmeserver.Validation) error {
		switch name, _, _ := strings.Cut(v.Identifier.Value, "."); name {
		case "dns":
			return &acme.Problem{Type: acme.DNS, Detail: "no address"}
		case "tls":
			<-time.After(time.Second)
			return &acme.Problem{Type: acme.TLS, Detail: "handshake failed"}
		case "later":
			<-time.After(time.Second)
			return &acmeserver.Later{}
		}
		return nil
	}), func(l *lab) {
		c := l.account(l.start())
		one := c.newOrder("ok.example.com", "dns.example.com")
		c.begin(one.Authorizations[0])
		c.begin(one.Authorizations[1])
		l.wait(10 * time.Second)
		got := c.read(one).is(l, acmeserver.StatusInvalid)
		if got.Error.Type != acme.DNS || got.Error.Detail != "dns.example.com: no address" || len(got.Error.Subproblems) != 1 {
			l.Errorf("error %+v", got.Error)
		}
		if a := c.authorization(one.Authorizations[1]); a.Status != acmeserver.StatusInvalid || a.Challenges[0].Error.Detail != "no address" {
			l.Errorf("authorization %+v", a)
		}
		c.finalize(one, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)

		several := c.newOrder("dns.example.com", "tls.example.com", "later.example.com", "ok.example.com")
		for _, url := range several.Authorizations {
			c.begin(url)
		}
		l.wait(10 * time.Second)
		got = c.read(several).is(l, acmeserver.StatusInvalid)
		if got.Error.Type != acme.Compound || len(got.Error.Subproblems) != 3 {
			l.Errorf("error %+v", got.Error)
		}
		var all []acmeserver.Status
		for _, url := range several.Authorizations {
			all = append(all, c.authorization(url).Status)
		}
		if want := []acmeserver.Status{"invalid", "invalid", "invalid", "valid"}; !slices.Equal(all, want) {
			l.Errorf("authorizations %v, want %v", all, want)
		}
	})
}

// A client gives up its authorization while the validator works.
func TestDeactivatedWhileValidating(t *testing.T) {
	release := make(chan struct{})
	inLab(t, challenged(func(context.Context, acmeserver.Validation) error {
		<-time.After(time.Minute / 2)
		return nil
	}), func(l *lab) {
		defer close(release)
		c := l.account(l.start())
		o := c.newOrder("a.example.com", "b.example.com")
		c.begin(o.Authorizations[0])
		l.wait(time.Second)
		var a authorizationDoc
		c.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).want(http.StatusOK).into(&a)
		if a.Status != acmeserver.StatusDeactivated {
			l.Errorf("authorization %+v", a)
		}
		c.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).want(http.StatusOK)
		c.send(o.Authorizations[0], rawacme.Fields{"status": "valid"}).refused(acme.Malformed, http.StatusBadRequest)
		l.wait(time.Minute)
		if got := c.read(o).is(l, acmeserver.StatusInvalid); !strings.Contains(got.Error.Detail, "a.example.com") {
			l.Errorf("order %+v", got)
		}
		if a := c.authorization(o.Authorizations[0]); a.Status != acmeserver.StatusDeactivated {
			l.Errorf("authorization %+v", a)
		}
		// A challenge of a deactivated authorization is not validated any more.
		c.begin(o.Authorizations[0])
	})
}

// A ready order becomes invalid, a finalized one does not.
func TestDeactivatedLater(t *testing.T) {
	inLab(t, nil, func(l *lab) {
		l.ca.slow(time.Minute)
		c := l.account(l.start())
		ready, begun := c.newOrder("a.example.com"), c.newOrder("a.example.com")
		c.finalize(begun, rawacme.NewKey())
		for _, o := range []orderDoc{ready, begun} {
			c.send(o.Authorizations[0], rawacme.Fields{"status": "deactivated"}).want(http.StatusOK)
		}
		c.finalize(ready, rawacme.NewKey()).refused(acme.OrderNotReady, http.StatusForbidden)
		l.wait(2 * time.Minute)
		c.read(begun).is(l, acmeserver.StatusValid)
	})
}

// A Server is killed while it validates. Another one does it again.
func TestKilledWhileValidating(t *testing.T) {
	var mu sync.Mutex
	attempts := 0
	inLab(t, challenged(func(ctx context.Context, _ acmeserver.Validation) error {
		mu.Lock()
		attempts++
		first := attempts == 1
		mu.Unlock()
		if first {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}), func(l *lab) {
		s := l.start()
		c := l.account(s)
		o := c.newOrder("a.example.com")
		c.begin(o.Authorizations[0])
		synctest.Wait()
		s.kill()
		c.at = l.start()
		l.wait(time.Minute)
		c.read(o).is(l, acmeserver.StatusReady)
	})
}

// A Server that stops counts no attempt. Another one validates soon.
func TestStoppedWhileValidating(t *testing.T) {
	var attempts []int
	inLab(t, challenged(func(ctx context.Context, v acmeserver.Validation) error {
		if attempts = append(attempts, v.Attempts); len(attempts) > 1 {
			return nil
		}
		<-ctx.Done()
		return ctx.Err()
	}), func(l *lab) {
		s := l.start()
		c := l.account(s)
		o := c.newOrder("a.example.com")
		c.begin(o.Authorizations[0])
		synctest.Wait()
		s.stop()
		<-s.done
		c.at = l.start()
		l.wait(time.Second)
		c.read(o).is(l, acmeserver.StatusReady)
		if !slices.Equal(attempts, []int{0, 0}) {
			l.Errorf("attempts %v", attempts)
		}
	})
}

// A validator that panics or never returns harms nothing else.
func TestBrokenValidator(t *testing.T) {
	inLab(t, challenged(func(ctx context.Context, v acmeserver.Validation) error {
		switch {
		case v.Attempts > 0 || v.Identifier.Value == "ok.example.com":
			return nil
		case v.Identifier.Value == "panic.example.com":
			panic("no")
		}
		<-ctx.Done()
		return ctx.Err()
	}), func(l *lab) {
		c := l.account(l.start())
		o := c.newOrder("panic.example.com", "hang.example.com", "ok.example.com")
		for _, url := range o.Authorizations {
			c.begin(url)
		}
		l.wait(10 * time.Second)
		c.read(o).is(l, acmeserver.StatusPending)
		l.wait(2 * time.Minute)
		c.read(o).is(l, acmeserver.StatusReady)
	})
}

// Validations of one owner leave places for others.
func TestValidationsAreShared(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) {
		challenged(func(ctx context.Context, v acmeserver.Validation) error {
			if v.Owner == "1" {
				<-ctx.Done()
			}
			return ctx.Err()
		})(c)
		c.Limits.Validations, c.Accounts = 4, new(owners)
	}, func(l *lab) {
		s := l.start()
		slow, other := l.account(s), l.account(s)
		for range 300 {
			slow.begin(slow.newOrder("a.example.com").Authorizations[0])
		}
		synctest.Wait()
		o := other.newOrder("b.example.com")
		other.begin(o.Authorizations[0])
		l.wait(5 * time.Second)
		other.read(o).is(l, acmeserver.StatusReady)
	})
}

// A policy must not make an order valid that demands a challenge without a validator.
type demanding struct{ acmeserver.Trusting }

func (demanding) Order(context.Context, acmeserver.OrderRequest) (acmeserver.Terms, error) {
	return acmeserver.Terms{Challenges: func(acme.Identifier) []string { return []string{"email-00"} }}, nil
}

func TestChallengeWithoutValidator(t *testing.T) {
	inLab(t, func(c *acmeserver.Config) { c.Policy = demanding{} }, func(l *lab) {
		c := l.account(l.start())
		c.send(l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": dns("a.example.com")}).
			refused(acme.ServerInternal, http.StatusInternalServerError)
	})
}
