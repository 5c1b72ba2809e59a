//go:build unix

package strangertest_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// hold makes this process hold n silent connections from several loopback addresses.
// It prints a line when all have been opened, and ends when its input ends. It does
// not reopen connections that the proxy closes.
func hold(addr string, n, addresses int) error {
	var dialing errgroup.Group
	dialing.SetLimit(8)
	held := make([]net.Conn, n)
	for i := range n {
		dialing.Go(func() (err error) {
			from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 1, byte(i%addresses/250), byte(1+i%addresses%250))}}
			held[i], err = from.Dial("tcp4", addr)
			return err
		})
	}
	if err := dialing.Wait(); err != nil {
		return err
	}
	fmt.Println("all opened")
	_, err := io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
	return err
}

// holdVariable holds the arguments of hold, for a process that must call it.
const holdVariable = "ACMEPROXY_TEST_HOLD"

func TestMain(m *testing.M) {
	args := os.Getenv(holdVariable)
	if args == "" {
		os.Exit(m.Run())
	}
	var addr string
	var n, addresses int
	_, err := fmt.Sscan(args, &addr, &n, &addresses)
	if err == nil {
		err = hold(addr, n, addresses)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// idle makes other processes hold n connections until the test ends. Each process has
// its own limit of open files.
func idle(t *testing.T, addr string, n, addresses int) {
	t.Helper()
	var files unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &files); err != nil {
		t.Fatal(err)
	}
	each := int(min(files.Max, 1<<20)) - 100
	for ; n > 0; n -= each {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s %d %d", holdVariable, addr, min(n, each), addresses))
		cmd.Stderr = os.Stderr
		in, err1 := cmd.StdinPipe()
		out, err2 := cmd.StdoutPipe()
		if err := errors.Join(err1, err2, cmd.Start()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			cmd.Wait()
		})
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
			t.Fatalf("the connections were not opened: %q, %v", line, err)
		}
	}
}

// Strangers hold 10,000 connections to each port, from one address and from many.
// The CA still validates, and a client is served (A23).
func TestIdleConnections(t *testing.T) {
	const n = 10_000
	p := proxytest.Start(t, proxytest.Options{})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	for i, addresses := range []int{1, 500} {
		for _, addr := range []string{p.HTTPAddr(), p.HTTPSAddr()} {
			idle(t, addr, n/2, addresses)
		}
		m := c.Register(t, fmt.Sprintf("n%d.example.com", i))
		if r := c.Bundle(t, m.ID, ""); r.Status != http.StatusOK {
			t.Errorf("with idle connections of %d addresses: %d %s", addresses, r.Status, r.Body)
		}
	}
}

// A request that two servers may parse differently gets one answer at most. So no
// client can smuggle a second request past a server in front (RFC 9112, section
// 11.2).
func TestSmuggling(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	const second = "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
	length := fmt.Sprintf("Content-Length: %d\r\n", len(second))
	both := fmt.Sprintf("Content-Length: %d\r\n", len("0\r\n\r\n"+second))
	shapes := map[string]string{
		"CL and TE":          both + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + second,
		"TE and CL":          "Transfer-Encoding: chunked\r\n" + both + "\r\n0\r\n\r\n" + second,
		"two CLs":            "Content-Length: 0\r\n" + length + "\r\n" + second,
		"a list of CLs":      fmt.Sprintf("Content-Length: 0, %d\r\n\r\n", len(second)) + second,
		"a signed CL":        fmt.Sprintf("Content-Length: +%d\r\n\r\n", len(second)) + second,
		"a CL in hex":        fmt.Sprintf("Content-Length: 0x%x\r\n\r\n", len(second)) + second,
		"a blank before :":   "Content-Length : 5\r\n\r\n" + second,
		"two TEs":            "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n" + second,
		"TE with a tab":      "Transfer-Encoding:\tchunked\r\n" + both + "\r\n0\r\n\r\n" + second,
		"TE with a VT":       "Transfer-Encoding: \vchunked\r\n" + both + "\r\n0\r\n\r\n" + second,
		"TE, two codings":    "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" + second,
		"obs-fold in TE":     "Transfer-Encoding:\r\n chunked\r\n" + both + "\r\n0\r\n\r\n" + second,
		"obs-fold first":     " Transfer-Encoding: chunked\r\n" + both + "\r\n0\r\n\r\n" + second,
		"chunk extension":    "Transfer-Encoding: chunked\r\n\r\n0;a=\"\r\n\r\n" + second,
		"a long extension":   "Transfer-Encoding: chunked\r\n\r\n1;" + strings.Repeat("a", 100_000) + "\r\nx\r\n0\r\n\r\n" + second,
		"bare LF in chunks":  "Transfer-Encoding: chunked\r\n\r\n0\n\n" + second,
		"a chunk too large":  "Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n" + second,
		"a negative chunk":   "Transfer-Encoding: chunked\r\n\r\n-1\r\n" + second,
		"a trailer":          "Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 9\r\n\r\n" + second,
		"bare CR in a value": "X: a\rContent-Length: 0\r\n" + length + "\r\n" + second,
		"NUL in a value":     "X: a\x00\r\n" + length + "\r\n" + second,
	}
	for _, secure := range []bool{false, true} {
		path := "/.well-known/acme-challenge/x"
		if secure {
			path = api.PathCertificates
		}
		for name, shape := range shapes {
			t.Run(fmt.Sprintf("%s, TLS %v", name, secure), func(t *testing.T) {
				t.Parallel() // some wait until the proxy closes the connection
				answer := p.Raw(t, secure, "POST "+path+" HTTP/1.1\r\nHost: x\r\n"+shape)
				if n := strings.Count(answer, "HTTP/1.1 "); n > 1 {
					t.Errorf("%d answers: %q", n, answer)
				}
				if answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 4") && !strings.HasPrefix(answer, "HTTP/1.1 501 ") || strings.Contains(answer, "smuggled") {
					t.Errorf("%q", answer)
				}
			})
		}
	}
}

// Clients that send headers or a body slowly are disconnected, and delay no other
// client. (The API's deadline for a body is long, so pkg/frontend/rest tests it.)
func TestSlowloris(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) {
		c.Limits = proxy.Limits{Port80Header: 2 * time.Second, APIHeader: 3 * time.Second}
	}})
	_, recipient := proxytest.NewIdentity(t)
	c := p.NewCaller(t, "web1", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	var slow sync.WaitGroup
	for _, secure := range []bool{false, true} {
		for _, text := range []string{
			"", "G", "POST / HTTP/1.1\r\nHost: x\r\nX: ",
			"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{",
			"POST /v1/enroll HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
		} {
			if secure && strings.Contains(text, "/v1/enroll") {
				continue
			}
			for range 20 {
				slow.Go(func() {
					if answer := p.Raw(t, secure, text); strings.Contains(answer, "HTTP/1.1 2") || strings.Contains(answer, "HTTP/1.1 5") {
						t.Errorf("%q has the answer %q", text, answer)
					}
				})
			}
		}
	}
	m := c.Register(t, "a.example.com")
	if r := c.Bundle(t, m.ID, ""); r.Status != http.StatusOK {
		t.Errorf("beside slow strangers: %d %s", r.Status, r.Body)
	}
	slow.Wait()
}

// A client that never reads answers is disconnected.
func TestNeverReads(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.Limits.Port80Header = time.Second }})
	conn, err := net.Dial("tcp", p.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(watch.Deadline(t)); err != nil {
		t.Fatal(err)
	}
	requests := []byte(strings.Repeat("GET /.well-known/acme-challenge/t HTTP/1.1\r\nHost: x\r\n\r\n", 1000))
	for err == nil {
		_, err = conn.Write(requests)
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("still connected")
	}
}

// Headers beyond the limit are refused.
func TestHugeHeaders(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	for _, secure := range []bool{false, true} {
		for _, text := range []string{
			"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 1<<20) + "\r\n\r\n",
			"GET / HTTP/1.1\r\nHost: x\r\n" + strings.Repeat("X: a\r\n", 1<<17) + "\r\n",
			"GET /" + strings.Repeat("a", 1<<20) + " HTTP/1.1\r\nHost: x\r\n\r\n",
		} {
			if answer := p.Raw(t, secure, text); answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 431 ") {
				t.Errorf("%.40q: %.200q", text, answer)
			}
		}
	}
}

// 200,000 requests of strangers to port 80 leave no memory in use.
func TestFloodOfPort80(t *testing.T) {
	const senders, batch = 4, 50 // each sender has one batch in flight
	p := proxytest.Start(t, proxytest.Options{})
	flood := func(requests int) {
		var sending sync.WaitGroup
		for s := range senders {
			sending.Go(func() {
				conn, err := net.Dial("tcp", p.HTTPAddr())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
				for n := 0; n < requests/senders; n += batch {
					for i := range batch {
						fmt.Fprintf(out, "GET /.well-known/acme-challenge/t%d-%d HTTP/1.1\r\nHost: h%d-%d.example\r\n\r\n", s, n+i, s, n+i)
					}
					if err := out.Flush(); err != nil {
						t.Error(err)
						return
					}
					for answers := 0; answers < batch; {
						line, err := in.ReadSlice('\n')
						if err != nil {
							t.Error(err)
							return
						}
						if bytes.HasPrefix(line, []byte("HTTP/1.1 404 ")) {
							answers++
						}
					}
				}
			})
		}
		sending.Wait()
	}
	heap := func() int64 {
		runtime.GC()
		used, _ := proxytest.Footprint()
		return int64(used)
	}
	requests := 200_000
	if proxytest.RaceDetector {
		requests /= 5
		t.Logf("%d requests only, as the race detector is on", requests)
	}
	flood(4000) // warms up pools and stacks
	before := heap()
	flood(requests)
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d requests have left %d KiB", requests, grown>>10)
	}
	if strings.Count(p.Log(), "\n") > 100 {
		t.Error("each stranger has a line in the log")
	}
}
