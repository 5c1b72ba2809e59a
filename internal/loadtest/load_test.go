package loadtest_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// 20 clients send 200 concurrent requests to a proxy that has no account yet. Each
// gets its certificate, and no resources stay in use (A43, A14).
func TestManyAtOnce(t *testing.T) {
	const hosts, each = 20, 10
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Limits = proxy.Limits{APIHeader: time.Hour} // for slow machines
	}})
	remotes := make([]*remote.Client, hosts)
	for i := range hosts {
		name := fmt.Sprintf("host%d", i)
		state := p.Enroll(t, name, proxytest.Grant(clients.ModeGateway, "*."+name+".example.com"))
		var err error
		if remotes[i], err = state.API(); err != nil {
			t.Fatal(err)
		}
	}
	heap, goroutines := proxytest.Footprint()

	var requests sync.WaitGroup
	for i := range hosts {
		for n := range each {
			want := proxytest.Names(t, fmt.Sprintf("n%d.host%d.example.com", n, i))
			requests.Go(func() {
				b, err := remotes[i].Issue(t.Context(), cert.Request{Names: want, KeyType: cert.EC256}, nil)
				if err != nil {
					t.Errorf("%s: %v", want, err)
					return
				}
				if got, err := b.Names(); err != nil || !got.Equal(want) {
					t.Errorf("%s got a certificate for %s, %v", want, got, err)
				}
			})
		}
	}
	requests.Wait()
	for kind, want := range map[string]int{
		pebbletest.NewAccount: 1, pebbletest.NewOrder: hosts * each, pebbletest.Certificate: hosts * each,
	} {
		if n := p.CA.Requests().Count(kind); n != want {
			t.Errorf("%d requests of %s, want %d", n, kind, want)
		}
	}
	if n := strings.Count(p.Log(), "gateway issuance passed through"); n != hosts*each {
		t.Errorf("%d issuances counted in the log", n)
	}

	// Connections to the CA and from the clients may stay open. Each has some
	// goroutines, but a request has none.
	const kept = 4 * (hosts + 8)
	var after int
	watch.Until(t, "the requests' goroutines are gone", func() bool {
		_, after = proxytest.Footprint()
		return after <= goroutines+kept
	})
	// Pebble runs in the same process and stores every order and certificate, about
	// 15 KiB each.
	now, _ := proxytest.Footprint()
	t.Logf("heap %d KiB before and %d KiB after, goroutines %d and %d", heap>>10, now>>10, goroutines, after)
	if grown := int64(now) - int64(heap); grown > hosts*each*40<<10 {
		t.Errorf("the heap has grown by %d KiB", grown>>10)
	}
}

// One client's long polls are limited, and do not affect another's (X5).
func TestLongPollsOfOneClient(t *testing.T) {
	const most = 128
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	greedy := p.NewCaller(t, "greedy", []string{recipient}, proxytest.Grant(clients.ModeAgent, "a.example.com"))
	modest := p.NewCaller(t, "modest", []string{recipient}, proxytest.Grant(clients.ModeAgent, "b.example.com"))
	m := greedy.Register(t, "a.example.com")
	etag := greedy.Bundle(t, m.ID, "").ETag()
	poll := func(wait string) (proxytest.Reply, error) {
		return greedy.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait="+wait, nil, "If-None-Match", etag)
	}
	var polls errgroup.Group
	for range most {
		polls.Go(func() error {
			for {
				switch r, err := poll("60s"); {
				case err != nil:
					return err
				case r.Status == http.StatusNotFound: // see below
					return nil
				case r.Status != http.StatusTooManyRequests: // the probe has taken the last place
					return fmt.Errorf("a long poll ended with %d", r.Status)
				}
			}
		})
	}
	for deadline := watch.Deadline(t); ; { // until all are in progress
		r, err := poll("10ms")
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == http.StatusTooManyRequests {
			if r.Header.Get("Retry-After") == "" || !strings.Contains(r.Problem(t).Detail, "128 long polls") {
				t.Errorf("refused with %v %s", r.Header, r.Body)
			}
			break
		}
		if r.Status != http.StatusNotModified || time.Now().After(deadline) {
			t.Fatalf("beside %d long polls: %d %s", most, r.Status, r.Body)
		}
	}
	modest.Bundle(t, modest.Register(t, "b.example.com").ID, "")
	if r := greedy.Do(t, http.MethodDelete, api.PathCertificates+"/"+m.ID, nil); r.Status != http.StatusNoContent {
		t.Errorf("delete: %d %s", r.Status, r.Body)
	}
	if err := polls.Wait(); err != nil {
		t.Error(err)
	}
}
