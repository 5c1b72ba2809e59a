package responder_test

import (
	"bufio"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

const sentinel = "XyzzyPlugh"

// port80 sends bytes to the running proxy's open port and reads what comes.
func port80(t *testing.T, p *proxytest.Proxy, text string) string {
	t.Helper()
	conn, err := net.Dial("tcp", p.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, text); err != nil {
		return "" // it hung up on us in the middle
	}
	answer, err := io.ReadAll(conn)
	if err != nil && len(answer) == 0 {
		return "" // a reset: the request was not read to its end
	}
	return string(answer)
}

// Whatever is sent to the open port, nothing of it comes back.
func TestPort80ReflectsNothing(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	big := strings.Repeat(sentinel, 10_000)
	for name, row := range map[string]struct {
		text   string
		status string
	}{
		"a token":              {"GET " + prefix + sentinel + " HTTP/1.1\r\nHost: " + sentinel + "\r\nConnection: close\r\n\r\n", "404"},
		"a path":               {"GET /" + sentinel + "?" + sentinel + " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"an unclean path":      {"GET //" + sentinel + "/../x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"another URL":          {"GET http://" + sentinel + "/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"CONNECT":              {"CONNECT " + sentinel + ":443 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"OPTIONS *":            {"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"TRACE":                {"TRACE / HTTP/1.1\r\nHost: x\r\nX: " + sentinel + "\r\nConnection: close\r\n\r\n", "404"},
		"a body":               {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 10\r\n\r\n" + sentinel, "404"},
		"a header too large":   {"GET / HTTP/1.1\r\nHost: x\r\nX: " + big + "\r\n\r\n", "431"},
		"a path too large":     {"GET /" + big + " HTTP/1.1\r\nHost: x\r\n\r\n", "431"},
		"a line without end":   {"GET /" + big, "431"},
		"a method of its own":  {sentinel + " / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"no HTTP":              {sentinel + "\r\n\r\n", "400"},
		"another version":      {"GET / HTTP/9.9\r\nHost: " + sentinel + "\r\n\r\n", "505"},
		"HTTP/2 without TLS":   {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "404"},
		"no host":              {"GET / HTTP/1.1\r\n\r\n", "400"},
		"two hosts":            {"GET / HTTP/1.1\r\nHost: x\r\nHost: " + sentinel + "\r\n\r\n", "400"},
		"a strange encoding":   {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: " + sentinel + "\r\n\r\n", "501"},
		"a bad length":         {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: " + sentinel + "\r\n\r\n", "400"},
		"a bad header":         {"GET / HTTP/1.1\r\nHost: x\r\n" + sentinel + " y: z\r\n\r\n", "400"},
		"an expectation":       {"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nExpect: " + sentinel + "\r\nContent-Length: 1\r\n\r\n", "417"},
		"the API":              {"GET /v1/client HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"the API's health":     {"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404"},
		"a TLS client's hello": {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + sentinel + "\r\n\r\n", "400"},
	} {
		t.Run(name, func(t *testing.T) {
			answer := port80(t, p, row.text)
			if strings.Contains(answer, sentinel) {
				t.Errorf("it repeats: %q", answer)
			}
			if answer != "" && !strings.HasPrefix(answer, "HTTP/1.1 "+row.status) && !strings.HasPrefix(answer, "HTTP/1.0 "+row.status) {
				t.Errorf("answer %.200q, want %s", answer, row.status)
			}
			if len(answer) > 1024 {
				t.Errorf("%d bytes", len(answer))
			}
		})
	}
	if n := p.CA.Requests().Total(); n != 0 {
		t.Errorf("the CA had %d requests", n)
	}
	if strings.Contains(p.Log(), sentinel) {
		t.Error("the log has what strangers send")
	}
}

// A flood of distinct hosts and tokens leaves nothing behind.
func TestPort80Flood(t *testing.T) {
	p := proxytest.Start(t, proxytest.Options{})
	flood := func(requests int) {
		var senders sync.WaitGroup
		for range 4 {
			senders.Go(func() {
				conn, err := net.Dial("tcp", p.HTTPAddr())
				if err != nil {
					t.Error(err)
					return
				}
				defer conn.Close()
				answers := bufio.NewReader(conn)
				for range requests {
					if _, err := fmt.Fprintf(conn, "GET %s%s HTTP/1.1\r\nHost: %s.example\r\nX-Filler: %0500d\r\n\r\n", prefix, rand.Text(), rand.Text(), 0); err != nil {
						t.Error(err)
						return
					}
					resp, err := http.ReadResponse(answers, nil)
					if err != nil {
						t.Error(err)
						return
					}
					if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusNotFound {
						t.Errorf("%d, %v", resp.StatusCode, err)
						return
					}
				}
			})
		}
		senders.Wait()
	}
	flood(500) // pools and stacks are warm now
	before := live()
	flood(5000) // 20,000 requests, some 12 MB
	if grown := live() - before; grown > 2<<20 {
		t.Errorf("memory has grown by %d bytes", grown)
	}
	if strings.Count(p.Log(), "\n") > 100 {
		t.Error("each stranger has a line in the log")
	}
}

// Who is slow with its headers, or says nothing at all, is cut off.
func TestPort80SlowHeaders(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	begin := time.Now()
	for _, text := range []string{"", "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: "} {
		if answer := port80(t, p, text); answer != "" {
			t.Errorf("%q: %q", text, answer)
		}
	}
	if took := time.Since(begin); took > 20*time.Second {
		t.Errorf("two such held their connections for %v", took)
	}
}

func live() int64 {
	runtime.GC()
	runtime.GC() // pools are emptied by the second
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
