package e2e

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// wire passes requests to servers in turn and remembers the answers.
type wire struct {
	servers []*acmeserver.Server // set before the first request

	mu      sync.Mutex // guards the fields below
	next    int
	answers []answer
}

// answer is an answer of a server.
type answer struct {
	request string // method and path
	status  int
	header  http.Header
	body    []byte
	took    time.Duration
}

func (w *wire) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w.mu.Lock()
	server := w.servers[w.next%len(w.servers)]
	w.next++
	w.mu.Unlock()
	begin := time.Now()
	tee := &teeWriter{ResponseWriter: rw}
	server.ServeHTTP(tee, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answers = append(w.answers, answer{
		request: r.Method + " " + r.URL.Path, status: tee.status, header: rw.Header().Clone(),
		body: tee.body.Bytes(), took: time.Since(begin),
	})
}

// teeWriter keeps a copy of the answer.
type teeWriter struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (t *teeWriter) WriteHeader(status int) {
	t.status = status
	t.ResponseWriter.WriteHeader(status)
}

func (t *teeWriter) Write(b []byte) (int, error) {
	t.body.Write(b)
	return t.ResponseWriter.Write(b)
}

// check checks all answers: what every client needs, and that orders were processing.
func (w *wire) check(t *testing.T) {
	w.mu.Lock()
	defer w.mu.Unlock()
	processing := 0
	for _, a := range w.answers {
		if a.header.Get("Replay-Nonce") == "" || a.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%s: %d with the header %v", a.request, a.status, a.header)
		}
		// cert-manager ends a call after 10 seconds. The machine may be busy.
		if a.took > 10*time.Second {
			t.Errorf("%s took %s", a.request, a.took)
		}
		if isProblem := strings.HasPrefix(a.header.Get("Content-Type"), "application/problem+json"); a.status >= 500 ||
			strings.Contains(string(a.body), "badNonce") || isProblem != (a.status >= 400) {
			t.Errorf("%s: %d %s", a.request, a.status, a.body)
		}
		var order struct {
			Status   string
			Finalize string
		}
		if !strings.Contains(a.request, "/order/") && !strings.Contains(a.request, "inalize") || a.status != http.StatusOK {
			continue
		}
		if err := json.Unmarshal(a.body, &order); err != nil || order.Finalize == "" || a.header.Get("Location") == "" {
			t.Errorf("%s: %v %s", a.request, a.header, a.body)
		}
		if order.Status != "processing" {
			continue
		}
		processing++
		// Caddy 2.6 fails on a date.
		if seconds, err := strconv.Atoi(a.header.Get("Retry-After")); err != nil || seconds < 1 || seconds > 5 {
			t.Errorf("%s: Retry-After: %q", a.request, a.header.Get("Retry-After"))
		}
	}
	if processing == 0 {
		t.Error("no order was processing when the server answered")
	}
}
