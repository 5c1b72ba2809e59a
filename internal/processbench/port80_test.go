package processbench

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// The peers' answer. It is as long as a probe's, which is our answer.
const (
	peerToken = "acmeproxy-probe-AAAAAAAAAAAAAAAAAAAAAAAAAA"
	peerBody  = "acmeproxy-probe-BBBBBBBBBBBBBBBBBBBBBBBBBB"
)

// bare serves a minimal net/http server that looks up one path in a map. It listens
// on $ACMEPROXY_BENCH_ADDR, without timeouts.
func bare() error {
	answers := map[string]string{responder.Prefix + peerToken: peerBody}
	var mu sync.RWMutex
	return http.ListenAndServe(os.Getenv(addrVariable), http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.RLock()
		body, ok := answers[r.URL.Path]
		mu.RUnlock()
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain")
		io.WriteString(w, body)
	}))
}

// task is the input of load, and turn its output.
type (
	task struct {
		Addr, Token, Body string
		Conns             int
		For               time.Duration
	}
	turn struct {
		Answers int
		Took    time.Duration
	}
)

// load requests one token over many persistent connections, for a limited time. It
// parses as little of an answer as possible, so that it uses less of its core than
// the server uses of the other one.
func load() error {
	var t task
	if err := json.NewDecoder(os.Stdin).Decode(&t); err != nil {
		return err
	}
	var conns []net.Conn
	for range t.Conns {
		c, err := net.Dial("tcp", t.Addr)
		if err != nil {
			return err
		}
		conns = append(conns, c)
	}
	counts := make([]int, len(conns))
	begun := time.Now()
	var g errgroup.Group
	for i, c := range conns {
		g.Go(func() (err error) {
			counts[i], err = ask(c, t, begun.Add(t.For))
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	out := turn{Took: time.Since(begun)}
	for _, n := range counts {
		out.Answers += n
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

// ask repeats one request. It parses the first answer completely. All others must
// have the same length.
func ask(c net.Conn, t task, until time.Time) (n int, err error) {
	request := []byte("GET " + responder.Prefix + t.Token + " HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	var wire bytes.Buffer
	if _, err := c.Write(request); err != nil {
		return 0, err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(io.TeeReader(c, &wire), 4096), nil)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if body, err := io.ReadAll(resp.Body); err != nil || string(body) != t.Body {
		return 0, fmt.Errorf("%s answers %s %q, %w", t.Addr, resp.Status, body, err)
	}
	answer := make([]byte, wire.Len())
	for time.Now().Before(until) {
		if _, err := c.Write(request); err != nil {
			return n, err
		}
		if _, err := io.ReadFull(c, answer); err != nil {
			return n, err
		}
		if !bytes.HasSuffix(answer, []byte(t.Body)) {
			return n, errors.New("the answers are not of one length")
		}
		n++
	}
	return n, nil
}

// peer is a measured server with the results of its turns.
type peer struct {
	process *process
	task    task
	rate    []float64 // answers a second
	cost    []float64 // microseconds of a core for an answer
}

func (p *peer) turn(b *testing.B) {
	b.Helper()
	p.task.Conns, p.task.For = 32, time.Second
	in, err := json.Marshal(p.task)
	if err != nil {
		b.Fatal(err)
	}
	cmd := pinned(b, coreOthers, []string{roleVariable + "=" + roleLoad}, self(b))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	before := p.process.cpu(b)
	out, err := cmd.Output()
	if err != nil {
		b.Fatal(err)
	}
	spent := p.process.cpu(b) - before
	var t turn
	if err := json.Unmarshal(out, &t); err != nil {
		b.Fatal(err)
	}
	p.rate = append(p.rate, float64(t.Answers)/t.Took.Seconds())
	p.cost = append(p.cost, float64(spent.Microseconds())/float64(t.Answers))
}

func self(b *testing.B) string {
	b.Helper()
	path, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	return path
}

func startBare(b *testing.B, core string) *peer {
	b.Helper()
	addr := freeAddr(b)
	p := start(b, core, []string{roleVariable + "=" + roleBare, "ACMEPROXY_BENCH_ADDR=" + addr}, self(b))
	return ready(b, &peer{process: p, task: task{Addr: addr, Token: peerToken, Body: peerBody}})
}

// startNginx starts nginx in front of a backend in its fastest configuration, with
// persistent connections and without a log.
func startNginx(b *testing.B, backend string) *peer {
	b.Helper()
	path, dir, addr := pebbletest.Tool(b, "nginx"), b.TempDir(), freeAddr(b)
	var temp strings.Builder
	for _, kind := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&temp, "%s_temp_path %s/%s; ", kind, dir, kind)
	}
	config := fmt.Sprintf(`daemon off; master_process off; pid %s/pid; error_log stderr;
events { worker_connections 1024; }
http {
	access_log off; %s
	keepalive_requests 100000000;
	upstream backend { server %s; keepalive 64; keepalive_requests 100000000; }
	server {
		listen %s;
		location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
	}
}
`, dir, temp.String(), backend, addr)
	file := filepath.Join(dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		b.Fatal(err)
	}
	p := start(b, coreServer, nil, path, "-p", dir, "-e", "stderr", "-c", file)
	return ready(b, &peer{process: p, task: task{Addr: addr, Token: peerToken, Body: peerBody}})
}

// ready waits for a server's first answer.
func ready(b *testing.B, p *peer) *peer {
	b.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := fetch(b.Context(), p.task.Addr, p.task.Token)
		if err == nil {
			return p
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s does not come up: %v\n%s", p.process.cmd.Path, err, p.process.out.String())
		}
	}
}

// BenchmarkPort80 measures one server after the other over 32 persistent connections
// for a second each. The rate depends on other users of the core. The core time of
// an answer depends less on them.
//
// Budgets: ours/nginx ≥ 1, ours/bare ≥ 0.9.
func BenchmarkPort80(b *testing.B) {
	proxy := serve(b, b.TempDir())
	ours := &peer{process: proxy.process, task: task{Addr: proxy.addr}}
	bare := startBare(b, coreServer)
	nginx := startNginx(b, startBare(b, coreOthers).task.Addr)
	for b.Loop() {
		probe := proxy.answer(b) // expires after a minute
		ours.task.Token, ours.task.Body = probe.Token, probe.Body
		ours.turn(b)
		bare.turn(b)
		nginx.turn(b)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(ours.rate), "ours-answers/s")
	b.ReportMetric(median(bare.rate), "bare-answers/s")
	b.ReportMetric(median(nginx.rate), "nginx-answers/s")
	b.ReportMetric(median(ours.cost), "ours-core-µs")
	b.ReportMetric(median(bare.cost), "bare-core-µs")
	b.ReportMetric(median(nginx.cost), "nginx-core-µs")
	b.ReportMetric(median(ours.rate)/median(nginx.rate), "ours/nginx")
	b.ReportMetric(median(ours.rate)/median(bare.rate), "ours/bare")
	b.ReportMetric(median(bare.cost)/median(ours.cost), "ours/bare-by-core")
}
