package proxy_test

import (
	"bufio"
	"bytes"
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

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// visited is a web server behind port 80.
type visited struct {
	http.ServeMux
	slow atomic.Int64 // requests in progress
}

const (
	slowBody = 60 << 10 // of a client with 5 KiB a second
	hugeBody = 8 << 20
)

func newVisited() *visited {
	v := &visited{}
	v.HandleFunc("GET /", func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "welcome") })
	v.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		v.slow.Add(1)
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
	defer v.slow.Add(-1)
	w.Header().Set("Content-Length", fmt.Sprint(n))
	w.Write(make([]byte, n))
}

// narrow dials from an address of loopback with a receive window of a few KiB.
func narrow(ip, addr string) (net.Conn, error) {
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

// progress sends an upload, or reads an answer, at 5 KiB a second and returns
// what the backend says or how much came.
func progress(ip, addr, request string, body int) (string, error) {
	c, err := narrow(ip, addr)
	if err != nil {
		return "", err
	}
	defer c.Close()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	if _, err := io.WriteString(c, request); err != nil {
		return "", err
	}
	for sent := 0; sent < body; sent += 512 {
		if _, err := c.Write(make([]byte, 512)); err != nil {
			return "", fmt.Errorf("after %d bytes: %w", sent, err)
		}
		<-tick.C
	}
	var answer bytes.Buffer
	for {
		n, err := io.CopyN(&answer, c, 512)
		switch {
		case errors.Is(err, io.EOF):
			return answer.String(), nil
		case err != nil:
			return "", fmt.Errorf("after %d bytes: %w", answer.Len(), err)
		case n == 512:
			<-tick.C
		}
	}
}

// Slow uploads and slow downloads from three addresses leave room for other
// visitors, and end when they make no progress. A client with 5 KiB a second is
// served to the end meanwhile (X41).
func TestSlowVisitors(t *testing.T) {
	t.Parallel()
	for name, request := range map[string]string{
		"uploads":   "POST / HTTP/1.1\r\nHost: www.example.com\r\nContent-Length: 1000000\r\n\r\nx",
		"downloads": "GET /huge HTTP/1.1\r\nHost: www.example.com\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			web := newVisited()
			backend := httptest.NewServer(web)
			t.Cleanup(backend.Close)
			p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.HTTPFallback = backend.URL }})
			const each = 250
			for i := range 3 * each {
				c, err := narrow(fmt.Sprintf("127.0.0.%d", 41+i%3), p.HTTPAddr())
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { c.Close() })
				if _, err := io.WriteString(c, request); err != nil {
					t.Fatal(err)
				}
			}
			watch.Until(t, "most slow requests are in progress", func() bool { return web.slow.Load() > 2*each })
			var patient errgroup.Group
			patient.Go(func() error {
				answer, err := progress("127.0.0.44", p.HTTPAddr(), fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", slowBody), slowBody)
				if err != nil || !strings.HasSuffix(answer, fmt.Sprintf("%d bytes", slowBody)) {
					return fmt.Errorf("a slow upload: %.300q, %w", answer, err)
				}
				return nil
			})
			patient.Go(func() error {
				answer, err := progress("127.0.0.44", p.HTTPAddr(), "GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", 0)
				if err != nil || len(answer) < slowBody {
					return fmt.Errorf("a slow download: %d bytes, %w", len(answer), err)
				}
				return nil
			})
			for i := range 50 {
				c, err := narrow(fmt.Sprintf("127.0.0.%d", 50+i), p.HTTPAddr())
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
			if err := patient.Wait(); err != nil {
				t.Error(err)
			}
			if name == "uploads" { // an answer may take two minutes
				watch.Until(t, "uploads without progress end", func() bool { return web.slow.Load() == 0 })
			}
		})
	}
}
