//go:build unix

package strangertest_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// visited is a web server behind port 80.
type visited struct {
	http.ServeMux
	slow  atomic.Int64 // requests in progress
	total atomic.Int64 // slow requests so far
}

const (
	slowBody = 60 << 10 // bytes that a slow visitor sends or reads
	hugeBody = 8 << 20
)

func newVisited() *visited {
	v := &visited{}
	v.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "welcome") })
	v.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		v.slow.Add(1)
		v.total.Add(1)
		defer v.slow.Add(-1)
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprintf(w, "%d bytes", n)
	})
	v.HandleFunc("GET /huge", func(w http.ResponseWriter, r *http.Request) { v.send(w, hugeBody) })
	v.HandleFunc("GET /slow", func(w http.ResponseWriter, r *http.Request) { v.send(w, slowBody) })
	return v
}

func (v *visited) send(w http.ResponseWriter, n int) {
	v.slow.Add(1)
	v.total.Add(1)
	defer v.slow.Add(-1)
	w.Header().Set("Content-Length", fmt.Sprint(n))
	w.Write(make([]byte, n))
}

// dialNarrow dials from a loopback address with a receive window of a few KiB.
func dialNarrow(ip, addr string) (net.Conn, error) {
	from := net.Dialer{
		LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)},
		Control: func(_, _ string, c syscall.RawConn) error {
			var failed error
			err := c.Control(func(fd uintptr) {
				failed = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096)
			})
			return errors.Join(err, failed)
		},
	}
	return from.Dial("tcp4", addr)
}

// slowVisitor is a visitor that sends a body, and reads an answer, in two parts.
type slowVisitor struct {
	conn net.Conn
	body int // bytes to send
}

// newSlowVisitor sends a request and half of its body.
func newSlowVisitor(t *testing.T, ip, addr, request string, body int) *slowVisitor {
	t.Helper()
	c, err := dialNarrow(ip, addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if _, err := io.WriteString(c, request+strings.Repeat("x", body/2)); err != nil {
		t.Fatal(err)
	}
	return &slowVisitor{c, body - body/2}
}

// finish sends the rest and returns the answer.
func (p *slowVisitor) finish() (string, error) {
	if _, err := io.WriteString(p.conn, strings.Repeat("x", p.body)); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(p.conn)
	return string(answer), err
}

// slowRequests holds the beginnings of requests that slow visitors send.
var slowRequests = map[string]string{
	"uploads":   "POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1000000\r\n\r\nx",
	"downloads": "GET /huge HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
}

// startBackend starts a proxy with a web server behind it.
func startBackend(t *testing.T, limits proxy.Limits) (*proxytest.Proxy, *visited) {
	t.Helper()
	web := newVisited()
	backend := httptest.NewServer(web)
	t.Cleanup(backend.Close)
	return proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.HTTPFallback, c.Limits = backend.URL, limits }}), web
}

// visitSlowly sends a request over n connections from three addresses.
func visitSlowly(t *testing.T, addr, request string, n int) {
	t.Helper()
	for i := range n {
		c, err := dialNarrow(fmt.Sprintf("127.0.0.%d", 41+i%3), addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		if _, err := io.WriteString(c, request); err != nil {
			t.Fatal(err)
		}
	}
}

// Slow uploads and slow downloads from three addresses do not prevent other visitors,
// fast or slow (X41).
func TestSlowVisitors(t *testing.T) {
	for name, request := range slowRequests {
		t.Run(name, func(t *testing.T) {
			// The timeouts do not matter here. 128 of these may be forwarded concurrently.
			p, web := startBackend(t, proxy.Limits{Connections: 512, Port80Header: time.Hour, FallbackGrace: time.Hour, FallbackLongest: time.Hour})
			const each = 31
			visitSlowly(t, p.HTTPAddr(), request, 3*each)
			watch.Until(t, "most slow requests are in progress", func() bool { return web.slow.Load() > 2*each })
			upload := newSlowVisitor(t, "127.0.0.44", p.HTTPAddr(), fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", slowBody), slowBody)
			download := newSlowVisitor(t, "127.0.0.44", p.HTTPAddr(), "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0)
			for i := range 50 {
				c, err := dialNarrow(fmt.Sprintf("127.0.0.%d", 50+i), p.HTTPAddr())
				if err != nil {
					t.Fatal(err)
				}
				io.WriteString(c, "GET / HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n")
				resp, err := http.ReadResponse(bufio.NewReader(c), nil)
				if err != nil || resp.StatusCode != http.StatusOK {
					t.Errorf("a visitor: %v, %v", resp, err)
				}
				c.Close()
			}
			if n := web.slow.Load(); n < each {
				t.Errorf("%d slow requests are left", n)
			}
			if answer, err := upload.finish(); err != nil || !strings.HasSuffix(answer, fmt.Sprintf("%d bytes", slowBody)) {
				t.Errorf("a slow upload: %.300q, %v", answer, err)
			}
			if answer, err := download.finish(); err != nil || len(answer) < slowBody {
				t.Errorf("a slow download: %d bytes, %v", len(answer), err)
			}
		})
	}
}

// Uploads and downloads without progress end (X41).
func TestVisitorsWithoutProgress(t *testing.T) {
	for name, request := range slowRequests {
		t.Run(name, func(t *testing.T) {
			// The timeout for writes follows Port80Header.
			p, web := startBackend(t, proxy.Limits{Port80Header: 2 * time.Second, FallbackGrace: time.Second, FallbackLongest: time.Hour})
			const n = 20
			visitSlowly(t, p.HTTPAddr(), request, n)
			watch.Until(t, "slow requests came and ended", func() bool { return web.total.Load() == n && web.slow.Load() == 0 })
		})
	}
}
