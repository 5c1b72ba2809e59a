package proxy_test

import (
	"net/http"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// After Replace, issuances in flight finish with the earlier settings, whose
// generation is then closed. Later requests use the new settings.
func TestReplace(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{pebbletest.NewOrder, pebbletest.Challenge, pebbletest.Finalize} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			var ca pebbletest.Fault
			var settings config.Serve
			p := proxytest.Start(t, proxytest.Options{
				Pebble: pebbletest.Options{Wrap: ca.Wrap},
				Change: func(cfg *proxy.Config) { settings = cfg.Serve },
			})
			host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.web1.example.com"))
			id, recipient := proxytest.NewIdentity(t)
			agent := p.NewCaller(t, "web2", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.web2.example.com"))
			<-streamed(t, host, "a.web1.example.com") // an account and a finished order, so that the next can be held
			arrived, release := ca.Hold(t, kind)
			m := agent.Register(t, "a.web2.example.com")
			issued := streamed(t, host, "b.web1.example.com")
			watch.Await(t, "the CA is asked", arrived)
			polled := make(chan int, 1)
			go func() {
				r, err := agent.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil)
				if err != nil {
					t.Errorf("the long poll: %v", err)
				}
				polled <- r.Status
			}()
			watch.Until(t, "both orders are held", func() bool { return p.CA.Requests().Count(kind) >= 3 })

			settings.Domains, settings.MaxClientCertificates = []string{"own.example.com"}, 1
			settings.HTTPSAddr = "192.0.2.1:1" // the process keeps its own
			closed, err := p.Replace(t.Context(), settings)
			if err != nil {
				t.Fatal(err)
			}
			if status := <-polled; status != http.StatusNotFound { // it is answered at once: there is no bundle yet
				t.Errorf("the long poll ended with %d", status)
			}
			if r := agent.Do(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{
				Names: []string{"b.web2.example.com"}, Mode: clients.ModeAgent,
			}); r.Status < 400 {
				t.Errorf("the new limit does not count: %d", r.Status)
			}
			later := streamed(t, host, "c.web1.example.com")
			select {
			case <-closed:
				t.Error("the earlier settings were closed while they were in use")
			default:
			}
			release()
			for _, done := range []<-chan error{issued, later} {
				if err := <-done; err != nil {
					t.Errorf("the gateway's client: %v", err)
				}
			}
			watch.Await(t, "the earlier settings are closed", closed)
			proxytest.OpenBundle(t, agent.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.web2.example.com"), id)
			watch.Until(t, "the new domain has its certificate", func() bool {
				return p.Own(t, "own.example.com").Serial != ""
			})
			if n := p.Orders(); n != 5 {
				t.Errorf("%d orders, want 5", n)
			}
		})
	}
}

// Settings that cannot work change nothing.
func TestReplaceFails(t *testing.T) {
	t.Parallel()
	var settings config.Serve
	p := proxytest.Start(t, proxytest.Options{Change: func(cfg *proxy.Config) { settings = cfg.Serve }})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeGateway, "*.web1.example.com"))
	for want, change := range map[string]func(*config.Serve){
		"profile: not the name": func(s *config.Serve) { s.Profile = "short lived" },
		"no such file":          func(s *config.Serve) { s.EABKid, s.EABHMACKeyFile = "kid", t.TempDir()+"/none" },
		"would share":           func(s *config.Serve) { s.Domains = []string{"a.example.com", "a.example.com,b.example.com"} },
	} {
		changed := settings
		change(&changed)
		if _, err := p.Replace(t.Context(), changed); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := <-streamed(t, host, "a.web1.example.com"); err != nil {
		t.Error(err)
	}
	closed, err := p.Replace(t.Context(), settings)
	if err != nil {
		t.Fatal(err)
	}
	watch.Await(t, "unused settings are closed at once", closed)
	if err := <-streamed(t, host, "b.web1.example.com"); err != nil {
		t.Error(err)
	}
}
