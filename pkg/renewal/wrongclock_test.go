package renewal_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// One attempt under a clock that is twelve years ahead parks nothing: once the
// clock is right, the certificate is renewed and the hook runs (X45).
func TestWrongClockParksNothing(t *testing.T) {
	t.Parallel()
	const years = 12 * 365 * 24 * time.Hour
	for _, name := range []string{"sqlite", "postgres"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := ""
			if name == "postgres" {
				url = pgtest.Start(t).Database(t)
			}
			var clk proxytest.Clock
			var ca pebbletest.Fault
			ca.Fail(http.StatusServiceUnavailable)
			hook := proxytest.NewHookLog(t)
			p := proxytest.Start(t, proxytest.Options{
				Store: url, Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: clk.On(hook.On("own.example.com")),
			})
			clk.Advance(years)
			p.Restart(t)
			watch.Until(t, "an attempt fails under the wrong clock", func() bool {
				c := p.Own(t, "own.example.com")
				return c.NextAttempt.After(time.Now().Add(years / 2))
			})
			ca.PassAll()
			p.Stop(t)
			clk.Advance(-years)
			p.Restart(t)
			hook.Deployed(t, 1)
			watch.Until(t, "all is well", func() bool {
				c := p.Own(t, "own.example.com")
				return c.Serial != "" && c.Deployment == nil
			})
			if !strings.Contains(p.Log(), "stored times were years off") {
				t.Error("the log does not say why")
			}
		})
	}
}

// A certificate that was obtained under a clock years ahead does not prevent a client
// from requesting another one when the clock is right (X45).
func TestWrongClockRefusesNoRenewal(t *testing.T) {
	t.Parallel()
	const years = 12 * 365 * 24 * time.Hour
	var clk proxytest.Clock
	clk.Advance(years)
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	watch.Until(t, "the certificate is there", func() bool { return c.Certificate(t, m.ID).Serial != "" })
	first := c.Certificate(t, m.ID).Serial
	clk.Advance(-years)
	if r := c.Do(t, http.MethodPost, api.PathCertificates+"/"+m.ID+"/renew", nil); r.Status >= 300 {
		t.Fatalf("renew: %d %s", r.Status, r.Body)
	}
	watch.Until(t, "another one is there", func() bool { return c.Certificate(t, m.ID).Serial != first })
}

// A success with the CA ends the delays of all that wait for it to recover, in
// whichever mode it was, on both databases.
func TestSuccessEndsDelays(t *testing.T) {
	t.Parallel()
	for _, mode := range []clients.Mode{clients.ModeAgent, clients.ModeGateway} {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			url := ""
			if mode == clients.ModeGateway {
				url = pgtest.Start(t).Database(t)
			}
			var clk proxytest.Clock
			var ca pebbletest.Fault
			p := proxytest.Start(t, proxytest.Options{Store: url, Pebble: pebbletest.Options{Wrap: ca.Wrap}, Change: clk.On()})
			_, recipient := proxytest.NewIdentity(t)
			grant := proxytest.Grant(clients.ModeAgent, "*.example.com")
			grant.Modes = append(grant.Modes, clients.ModeGateway)
			c := p.NewCaller(t, "web1", []string{recipient}, grant)
			ca.Fail(http.StatusServiceUnavailable)
			waiting := c.Register(t, "waiting.example.com")
			// Each failure doubles the delay: 9 of them make it an hour.
			for n := 1; n <= 9; n++ {
				watch.Until(t, "the attempt fails", func() bool { return c.Certificate(t, waiting.ID).Failures >= n })
				if n < 9 {
					clk.Advance(time.Hour)
					p.Renewals.Wake()
				}
			}
			delay := c.Certificate(t, waiting.ID).NextAttempt.Sub(clk.Now())
			ca.PassAll()
			began := clk.Now()
			switch mode {
			case clients.ModeAgent:
				c.Register(t, "other.example.com")
			case clients.ModeGateway:
				c.Gateway(t, api.CertificateRequest{Names: []string{"other.example.com"}})
			}
			watch.Until(t, "the delayed certificate is there", func() bool { return c.Certificate(t, waiting.ID).Serial != "" })
			t.Logf("the next attempt was to be after %v and came after %v", delay.Round(time.Second), clk.Now().Sub(began).Round(time.Millisecond))
			if delay < 30*time.Minute {
				t.Errorf("the delay was %v only, so this shows nothing", delay)
			}
		})
	}
}
