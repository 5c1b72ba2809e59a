package renewal_test

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// A proxy that dies at any step continues the order that it had begun, without a
// second order or a loss (X7, A36).
func TestCrashLosesNoOrder(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{pebbletest.Authorization, pebbletest.Challenge, pebbletest.Finalize, pebbletest.Certificate} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			// Of the second one: a connection that the first one closes late removes the WAL
			// in its own folder.
			dir, err := os.MkdirTemp("", "apx") //nolint:usetesting // t.TempDir's path is too long for a socket
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { os.RemoveAll(dir) })
			var ca pebbletest.Fault
			p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: ca.Wrap}})
			id, recipient := proxytest.NewIdentity(t)
			c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
			arrived, release := ca.Hold(t, kind)
			m := c.Register(t, "a.example.com")
			watch.Await(t, "the CA is asked", arrived)
			left := proxytest.Walk(t, p.DataDir)

			// The dying proxy's request reaches no server, and it writes no more.
			ca.Fail(http.StatusServiceUnavailable)
			release()
			p.Stop(t)
			for path, data := range left {
				restore(t, filepath.Join(dir, filepath.Base(path)), data)
			}
			ca.PassAll()
			p.DataDir = dir
			p.Restart(t, func(c *proxy.Config) { c.DataDir = dir }) // which frees what the dead one held
			watch.Until(t, "the certificate is there", func() bool { return c.Certificate(t, m.ID).Serial != "" })
			proxytest.OpenBundle(t, c.Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
			for kind, want := range map[string]int{pebbletest.NewOrder: 1, pebbletest.NewAccount: 1} {
				if n := p.CA.Requests().Count(kind); n != want {
					t.Errorf("%d requests of %s, want %d", n, kind, want)
				}
			}
		})
	}
}

// relay forwards the CA's requests to port 80. It can be closed for a while.
type relay struct {
	target atomic.Pointer[string] // where the proxy's port 80 is
	gate   chan struct{}          // closed: open
	asked  chan struct{}          // closed when a request waits at the gate
	token  string                 // of the first request, once asked is closed
	once   sync.Once
}

func newRelay(t testing.TB, port int) *relay {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{gate: make(chan struct{}), asked: make(chan struct{})}
	forward := &httputil.ReverseProxy{Rewrite: func(pr *httputil.ProxyRequest) {
		pr.Out.URL.Scheme, pr.Out.URL.Host, pr.Out.Host = "http", *r.target.Load(), pr.In.Host
	}}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.once.Do(func() {
			r.token = path.Base(req.URL.Path)
			close(r.asked)
		})
		select {
		case <-r.gate:
			forward.ServeHTTP(w, req)
		case <-req.Context().Done():
		}
	})}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return r
}

func (r *relay) to(addr string) { r.target.Store(&addr) }

// A proxy that dies between its request to validate and the CA's validation has
// restarted with the answer when the CA comes (X7).
func TestCrashWhileTheCAValidates(t *testing.T) {
	t.Parallel()
	var caFault pebbletest.Fault
	ca := pebbletest.Start(t, pebbletest.Options{Wrap: caFault.Wrap})
	port80 := newRelay(t, ca.HTTPPort)
	p := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(c *proxy.Config) {
		c.Version, c.HTTPAddr = "dead", "127.0.0.1:0"
	}})
	port80.to(p.HTTPAddr())
	id, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	m := c.Register(t, "a.example.com")
	watch.Await(t, "the CA asks for the answer", port80.asked)
	watch.Until(t, "the CA has answered the proxy", func() bool { return strings.Contains(ca.Log(), "POST /chalZ/") })

	// The rest of the first one continues here, but reaches no server.
	left := proxytest.Walk(t, p.DataDir)
	caFault.Set(func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if strings.Contains(r.UserAgent(), "acmeproxy/dead") {
			http.Error(w, "dead", http.StatusServiceUnavailable)
			return
		}
		next.ServeHTTP(w, r)
	})
	q := proxytest.Start(t, proxytest.Options{CA: ca, Change: func(c *proxy.Config) {
		c.HTTPAddr = "127.0.0.1:0"
		for path, data := range left {
			restore(t, filepath.Join(c.DataDir, filepath.Base(path)), data)
		}
	}})
	port80.to(q.HTTPAddr())
	watch.Until(t, "the answer is there again", func() bool {
		status, _ := proxytest.AnswerAt(t, q.HTTPAddr(), "a.example.com", port80.token)
		return status == http.StatusOK
	})
	close(port80.gate)
	proxytest.OpenBundle(t, q.WithToken(t, c.Token).Bundle(t, m.ID, "").Body, proxytest.Names(t, "a.example.com"), id)
	if n := ca.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders, want 1", n)
	}
}

// restore writes a file that a dead proxy has left.
func restore(t testing.TB, path string, data []byte) {
	t.Helper()
	if strings.HasSuffix(path, "-shm") {
		return // an index of the WAL, in memory: it dies with its process
	}
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}
