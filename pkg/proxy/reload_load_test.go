package proxy_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"runtime"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// X19: fifty reloads while twenty clients work cost none of them an answer, and leave
// no goroutine and no open file. It runs alone, because it counts those.
func TestReloadsUnderLoad(t *testing.T) {
	const reloads, each = 50, 10
	var f file
	p := proxytest.Start(t, proxytest.Options{Change: func(cfg *proxy.Config) {
		cfg.DefaultDailyQuota = "0"
		f.on(cfg)
	}})
	working, done := context.WithCancel(t.Context())
	defer done()
	var workers sync.WaitGroup
	var served [2 * each]int
	for i := range each {
		name := fmt.Sprintf("web%d", i)
		host := p.Enroll(t, "gateway-"+name, proxytest.Grant(clients.ModeGateway, "*."+name+".example.com"))
		gateway, err := host.API() // one connection
		if err != nil {
			t.Fatal(err)
		}
		workers.Go(func() {
			for n := 0; working.Err() == nil; n++ {
				names := proxytest.Names(t, fmt.Sprintf("g%d.%s.example.com", n, name))
				if _, err := gateway.Issue(t.Context(), cert.Request{Names: names, KeyType: cert.EC256}, nil); err != nil {
					t.Errorf("gateway %s: %v", name, err)
					return
				}
				served[i]++
			}
		})
		_, recipient := proxytest.NewIdentity(t)
		caller := p.NewCaller(t, "agent-"+name, []string{recipient}, proxytest.Grant(clients.ModeAgent, "*."+name+".example.net"))
		workers.Go(func() {
			for n := 0; working.Err() == nil; n++ {
				if err := obtain(t, caller, fmt.Sprintf("a%d.%s.example.net", n, name)); err != nil {
					t.Errorf("agent %s: %v", name, err)
					return
				}
				served[each+i]++
			}
		})
	}
	reload := func(n int) {
		f.edit(func(s *config.Serve) { s.MaxClientCertificates = 10_000 + n })
		if got, err := p.Admin.Reload(t.Context()); err != nil || len(got.Changed) != 1 {
			t.Errorf("reload %d: %q, %v", n, got.Changed, err)
		}
	}
	reload(1)
	watch.Until(t, "all clients are at work", func() bool { return p.Orders() >= 4*each })
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	for n := range reloads {
		reload(n + 2)
		orders := p.Orders()
		watch.Until(t, "orders go on", func() bool { return p.Orders() > orders })
	}
	done()
	workers.Wait()
	for i, n := range served {
		if n == 0 {
			t.Errorf("client %d got nothing", i)
		}
	}
	// The clients have stopped, so there is less of both than before.
	watch.Until(t, "no goroutine is left over", func() bool { return runtime.NumGoroutine() <= goroutines })
	watch.Until(t, "no open file is left over", func() bool { return openFiles(t) <= files })
	if n := p.Answers(); n != 0 {
		t.Errorf("%d answers are left", n)
	}
}

// obtain registers a certificate and polls until it is there. A reload answers a long
// poll early.
func obtain(t *testing.T, c *proxytest.Caller, name string) error {
	m := api.Certificate{}
	r, err := c.Try(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{name}, KeyType: "ec256"})
	if err != nil || r.Status != http.StatusAccepted {
		return fmt.Errorf("register: %d %s, %w", r.Status, r.Body, err)
	}
	if _, err := api.Unmarshal(r.Body, api.MaxValues, &m); err != nil {
		return err
	}
	for {
		r, err := c.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=30s", nil)
		switch {
		case err != nil:
			return fmt.Errorf("long poll: %w", err)
		case r.Status == http.StatusOK:
			return nil
		case r.Status != http.StatusNotFound:
			return fmt.Errorf("long poll: %d %s", r.Status, r.Body)
		}
	}
}

func openFiles(t *testing.T) int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip("SKIP: this system does not list open files: " + err.Error())
	}
	return len(entries)
}
