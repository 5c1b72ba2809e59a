package fallback_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

func backend(addr string) http.Handler {
	return fallback.Backend(challenges(), fallback.BackendConfig{Target: &url.URL{Scheme: "http", Host: addr}, Logger: slog.New(slog.DiscardHandler)})
}

// A request arrives unchanged except for the fields that only we set. The answer
// comes back unchanged.
func TestBackend(t *testing.T) {
	var got *http.Request
	var body []byte
	addr := serve(t, backend(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		w.Header().Set("X-App", "yes")
		w.Header().Set("Location", "http://www.example.com:80/elsewhere")
		w.WriteHeader(http.StatusFound)
		io.WriteString(w, "found")
	}))))
	resp, answer := ask(t, addr, "POST /a%2Fb/../c?d=e HTTP/1.1\nHost: WWW.example.com:80\nContent-Length: 5\nAccept: x/y\n"+
		"X-Forwarded-For: 192.0.2.66\nX-Forwarded-Host: evil.example\nX-Forwarded-Proto: https\nX-Forwarded-Port: 443\n"+
		"X_Forwarded_For: 192.0.2.66\nx-Forwarded_host: evil.example\nX.Forwarded.Proto: https\nX_Real_IP: 192.0.2.66\nProxy: http://evil.example\nTransfer_Encoding: x\n"+
		"X-Real-IP: 192.0.2.66\nForwarded: for=192.0.2.66\nUpgrade: websocket\nProxy-Authorization: Basic x\nUser-Agent: Test\n\nhello")
	if resp.StatusCode != http.StatusFound || answer != "found" || resp.Header.Get("X-App") != "yes" || resp.Header.Get("Location") != "http://www.example.com:80/elsewhere" {
		t.Errorf("%d %v %q", resp.StatusCode, resp.Header, answer)
	}
	if got.Method != http.MethodPost || got.RequestURI != "/a%2Fb/../c?d=e" || got.Host != "WWW.example.com:80" || string(body) != "hello" {
		t.Errorf("%s %s of %s with %q", got.Method, got.RequestURI, got.Host, body)
	}
	want := http.Header{
		"Accept": {"x/y"}, "User-Agent": {"Test"}, "Content-Length": {"5"},
		"X-Forwarded-For": {"127.0.0.1"}, "X-Forwarded-Host": {"WWW.example.com:80"}, "X-Forwarded-Proto": {"http"},
	}
	if diff := cmp.Diff(want, got.Header); diff != "" {
		t.Error(diff)
	}
}

// If the backend is down, clients get a short 502, and the log has one line.
func TestBackendDown(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	down := l.Addr().String()
	l.Close()
	var log bytes.Buffer
	h := fallback.Backend(challenges(), fallback.BackendConfig{Target: &url.URL{Scheme: "http", Host: down}, Logger: slog.New(slog.NewTextHandler(&log, nil))})
	addr := serve(t, h)
	for range 3 {
		if resp, body := ask(t, addr, "GET /MaRk HTTP/1.1\nHost: www.example.com"); resp.StatusCode != http.StatusBadGateway || body != "bad gateway\n" {
			t.Errorf("%d %q", resp.StatusCode, body)
		}
	}
	if n := lines(&log); n != 1 || !strings.Contains(log.String(), "http-fallback: the backend does not answer") || strings.Contains(log.String(), "MaRk") {
		t.Errorf("%d lines: %s", n, &log)
	}
	if resp, _ := ask(t, addr, "GET "+responder.Prefix+token+" HTTP/1.1\nHost: www.example.com"); resp.StatusCode != http.StatusOK {
		t.Errorf("a challenge meanwhile: %d", resp.StatusCode)
	}
}

// A body that is too large is cut off.
func TestBackendBody(t *testing.T) {
	addr := serve(t, backend(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
	}))))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/", io.LimitReader(zeros{}, 33<<20))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := new(http.Transport).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("33 MiB: %s", resp.Status)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A backend that hangs occupies no more than its places. Challenges and refusals are
// answered at once.
func TestBackendHangs(t *testing.T) {
	const most = 1024
	var begun sync.WaitGroup
	begun.Add(most)
	release := make(chan struct{})
	hangs := &http.ServeMux{}
	hangs.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		begun.Done()
		<-release
	})
	h := backend(serve(t, hangs))
	var waiting sync.WaitGroup
	ctx, cancel := context.WithCancel(t.Context())
	defer waiting.Wait()
	defer close(release)
	defer cancel()
	for i := range most { // from as many addresses
		waiting.Go(func() {
			w := discard{http.Header{}}
			r, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://www.example.com/", nil)
			r.RemoteAddr = fmt.Sprintf("192.0.%d.%d:1", i/256, i%256)
			h.ServeHTTP(w, r)
		})
	}
	begun.Wait()
	addr := serve(t, h)
	if resp, body := ask(t, addr, "GET / HTTP/1.1\nHost: www.example.com"); resp.StatusCode != http.StatusServiceUnavailable || body != "service unavailable\n" || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one too many: %d %q", resp.StatusCode, body)
	}
	if resp, body := ask(t, addr, "GET "+responder.Prefix+token+" HTTP/1.1\nHost: www.example.com"); resp.StatusCode != http.StatusOK || body != keyAuth {
		t.Errorf("a challenge meanwhile: %d %q", resp.StatusCode, body)
	}
}

type discard struct{ header http.Header }

func (d discard) Header() http.Header         { return d.header }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
