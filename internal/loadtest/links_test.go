package loadtest_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// 500 remotes behind one address connect at the same moment, as after a restart
// of the proxy, and wait with long polls. On a busy host, some may have to connect
// again. Then the default limits serve all of them at the same time, each over its
// own connection (X41).
func TestManyRemotesBehindOneAddress(t *testing.T) {
	for _, store := range []string{"SQLite", "PostgreSQL"} {
		t.Run(store, func(t *testing.T) {
			url := ""
			if store == "PostgreSQL" {
				url = pgtest.Start(t).Database(t)
			}
			// A slow machine needs a long time for the handshakes.
			p := proxytest.Start(t, proxytest.Options{Store: url, Change: func(c *proxy.Config) { c.Limits.APIHeader = time.Hour }})
			pollFromOneAddress(t, p)
		})
	}
}

func pollFromOneAddress(t *testing.T, p *proxytest.Proxy) {
	const share = 100 // a client may have 128 long polls
	remotes := 500
	if proxytest.RaceDetector {
		remotes = 200
	}
	_, recipient := proxytest.NewIdentity(t)
	var callers []*proxytest.Caller
	var ids []string
	for i := range remotes / share {
		c := p.NewCaller(t, fmt.Sprintf("web%d", i), []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
		callers = append(callers, c)
		ids = append(ids, c.Register(t, fmt.Sprintf("n%d.example.com", i)).ID)
	}
	etags := make([]string, len(ids))
	for i, c := range callers {
		etags[i] = c.Bundle(t, ids[i], "").ETag()
	}
	var dials atomic.Int64
	transports := make([]*http.Transport, remotes)
	for i := range transports {
		transports[i] = proxytest.DialFrom(t, "127.0.0.31", &tls.Config{})
		dial := transports[i].DialContext
		transports[i].DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials.Add(1)
			return dial(ctx, network, addr)
		}
	}
	for _, step := range []struct {
		name, path string
		want       int
	}{
		{"connect", api.PathClient, http.StatusOK},
		{"poll", "", http.StatusNotModified},
		{"ask again", api.PathClient, http.StatusOK},
	} {
		var asking errgroup.Group
		begun := time.Now()
		for i, transport := range transports {
			c, id, etag := callers[i/share], ids[i/share], etags[i/share]
			asking.Go(func() error {
				path := step.path
				if path == "" {
					path = api.PathCertificates + "/" + id + "/bundle?wait=3s"
				}
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, p.URL+path, nil)
				if err != nil {
					return err
				}
				req.Header.Set("Authorization", "Bearer "+c.Token)
				req.Header.Set("If-None-Match", etag)
				resp, err := transport.RoundTrip(req)
				for range 10 {
					if err == nil || step.name != "connect" {
						break
					}
					resp, err = transport.RoundTrip(req)
				}
				if err != nil {
					return fmt.Errorf("%s: %w", step.name, err)
				}
				defer resp.Body.Close()
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != step.want {
					return fmt.Errorf("%s: %s, %w", step.name, resp.Status, err)
				}
				return nil
			})
		}
		if err := asking.Wait(); err != nil {
			t.Error(err)
		}
		t.Logf("%s: %v for %d remotes", step.name, time.Since(begun), remotes)
		if step.name == "connect" {
			t.Logf("%d connections were opened", dials.Swap(0))
		}
	}
	if n := dials.Load(); n != 0 {
		t.Errorf("%d remotes lost their connections", n)
	}
}

// slowLink sends 2,000 bytes a second.
type slowLink struct{ net.Conn }

func (s slowLink) Write(b []byte) (int, error) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	sent := 0
	for sent < len(b) {
		n, err := s.Conn.Write(b[sent:min(len(b), sent+100)])
		if sent += n; err != nil {
			return sent, err
		}
		<-tick.C
	}
	return sent, nil
}

// A client that sends 2 KB a second enrolls with a chain of three certificates,
// over HTTP/1.1 and HTTP/2. Only the first certificate identifies it, and it uses
// one connection (A2, A3).
func TestSlowLinkAndChain(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	for _, proto := range []string{"h2", "http/1.1"} {
		t.Run(proto, func(t *testing.T) {
			t.Parallel()
			chain, dials := clientChain(t), new(atomic.Int64)
			transport := proxytest.DialFrom(t, "127.0.0.1", &tls.Config{NextProtos: []string{proto}, Certificates: []tls.Certificate{chain}})
			dial := transport.DialContext
			transport.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
				dials.Add(1)
				c, err := dial(ctx, network, addr)
				return slowLink{c}, err
			}
			secret := p.AddClient(t, "slow-"+proto[:2], proxytest.Grant(clients.ModeGateway, "*.example.com")).Secret
			_, recipient := proxytest.NewIdentity(t)
			body := fmt.Sprintf(`{"secret":%q,"recipients":[%q]}`, base64.RawURLEncoding.EncodeToString(secret[:]), recipient)
			resp, err := proxytest.Exchange(t.Context(), transport, http.MethodPost, p.URL+api.PathEnroll, "", strings.NewReader(body))
			if err != nil || resp.StatusCode != http.StatusCreated {
				t.Fatal(resp, err)
			}
			for range 2 {
				if resp, err := proxytest.Exchange(t.Context(), transport, http.MethodGet, p.URL+api.PathClient, "", nil); err != nil || resp.StatusCode != http.StatusOK {
					t.Error(resp, err)
				}
			}
			if dials.Load() != 1 {
				t.Errorf("%d connections", dials.Load())
			}
			other := clientChain(t)
			other.Certificate = append(other.Certificate[:1:1], chain.Certificate[0])
			thief := proxytest.DialFrom(t, "127.0.0.1", &tls.Config{NextProtos: []string{proto}, Certificates: []tls.Certificate{other}})
			if resp, err := proxytest.Exchange(t.Context(), thief, http.MethodGet, p.URL+api.PathClient, "", nil); err != nil || resp.StatusCode != http.StatusUnauthorized {
				t.Errorf("the key of a client in the second place: %v, %v", resp, err)
			}
		})
	}
}

// clientChain returns a certificate with a new key, followed by two more.
func clientChain(t *testing.T) tls.Certificate {
	t.Helper()
	var chain tls.Certificate
	for range 3 {
		key, err := cert.GenerateKey(cert.EC256)
		if err != nil {
			t.Fatal(err)
		}
		one, err := cert.SelfSigned(key, "web1")
		if err != nil {
			t.Fatal(err)
		}
		if chain.PrivateKey == nil {
			chain = *one
			continue
		}
		chain.Certificate = append(chain.Certificate[:len(chain.Certificate):len(chain.Certificate)], one.Certificate...)
	}
	return chain
}
