package rest_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// heldCA is a CA that holds each CSR back until it is told to answer it.
type heldCA struct {
	asked, answer chan struct{}
}

func (h *heldCA) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if pebbletest.Kind(r) == pebbletest.Finalize {
			h.asked <- struct{}{}
			<-h.answer
		}
		next.ServeHTTP(w, r)
	})
}

// losses are what a client can lose while it waits, and the status that it gets
// in agent and in gateway mode. A sealed bundle that is its own can be read
// without a grant.
var losses = []struct {
	name           string
	agent, gateway int
	lose           func(ctx context.Context, p *proxytest.Proxy) error
}{
	{"the client is disabled", 401, 401, func(ctx context.Context, p *proxytest.Proxy) error {
		_, err := p.Admin.SetDisabled(ctx, "web1", true)
		return err
	}},
	{"its credential is replaced", 401, 401, func(ctx context.Context, p *proxytest.Proxy) error {
		_, err := p.Admin.NewToken(ctx, "web1", admin.NewToken{Replace: true, Secret: admin.Secret{Bearer: true}})
		return err
	}},
	{"the client is removed", 0, 401, func(ctx context.Context, p *proxytest.Proxy) error {
		_, err := p.Admin.RemoveClient(ctx, "web1")
		return err
	}},
	{"its grant is for another name", 200, 403, func(ctx context.Context, p *proxytest.Proxy) error {
		return regrant(ctx, p, clients.Grant{Names: []string{"other.example.com"}, Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}})
	}},
	{"its grant is for another network", 200, 403, func(ctx context.Context, p *proxytest.Proxy) error {
		return regrant(ctx, p, clients.Grant{
			Names: []string{"*.example.com"}, Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}, Networks: []string{"192.0.2.0/24"},
		})
	}},
}

func regrant(ctx context.Context, p *proxytest.Proxy, g clients.Grant) error {
	_, err := p.Admin.Apply(ctx, admin.ApplyRequest{Clients: []admin.ClientSpec{{Name: "web1", Grants: []clients.Grant{g}}}})
	return err
}

// What a client waits for is not handed out if it may not have it any more when
// it comes: at the end of a long poll as at the end of a stream (A43).
func TestLossWhileWaiting(t *testing.T) {
	t.Parallel()
	for _, loss := range losses {
		for mode, want := range map[clients.Mode]int{clients.ModeAgent: loss.agent, clients.ModeGateway: loss.gateway} {
			if want == 0 {
				continue // no news comes, the poll ends with its time
			}
			t.Run(loss.name+", "+string(mode), func(t *testing.T) {
				t.Parallel()
				ca := &heldCA{make(chan struct{}), make(chan struct{})}
				p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.wrap}})
				_, recipient := proxytest.NewIdentity(t)
				c := p.NewCaller(t, "web1", []string{recipient}, clients.Grant{Names: []string{"*.example.com"}, Modes: []clients.Mode{clients.ModeAgent, clients.ModeGateway}})
				got := make(chan string, 1)
				go func() { got <- outcome(t, c, mode) }()
				<-ca.asked
				if err := loss.lose(t.Context(), p); err != nil {
					t.Error(err)
				}
				ca.answer <- struct{}{}
				if got := <-got; got != fmt.Sprint(want) {
					t.Errorf("the answer is %s, want %d", got, want)
				}
			})
		}
	}
}

// outcome asks for a certificate, waits for it, and returns a status.
func outcome(t *testing.T, c *proxytest.Caller, mode clients.Mode) string {
	req := api.CertificateRequest{Mode: mode, Names: []string{"a.example.com"}}
	if mode == clients.ModeAgent {
		m := c.Registered(t, req)
		r, err := c.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil)
		if err != nil {
			return err.Error()
		}
		return fmt.Sprint(r.Status)
	}
	events := c.Gateway(t, req)
	last := events[len(events)-1]
	if last.Problem != nil && len(last.Bundle) == 0 {
		return fmt.Sprint(last.Problem.Status)
	}
	return "200"
}
