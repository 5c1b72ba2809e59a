package rest_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/internal/rawhttp"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// slow is a proxy whose work ends when the test says so, behind a server whose
// limits are short.
type slow struct {
	rest.Agent // what is not used here
	store      *store.Store
	server     *httptest.Server
	token      string
	begun      chan context.Context
	finish     chan struct{}
	stop       context.CancelFunc
}

func (s *slow) Bundle(ctx context.Context, _ clients.Identity, _, _ string, _ time.Duration) (managed.Bundle, error) {
	s.begun <- ctx
	select {
	case <-s.finish:
		return managed.Bundle{ETag: "e", Ciphertext: []byte("sealed")}, nil
	case <-ctx.Done():
		return managed.Bundle{}, managed.ErrNotFound
	}
}

func (s *slow) begin(context.Context, clients.Identity, cert.Request) (rest.Issuance, error) {
	return func(ctx context.Context, emit func(acme.Event), _ func(context.Context) (clients.Identity, error)) (*cert.Bundle, []age.Recipient, error) {
		emit(acme.Event{Stage: acme.Ordering})
		s.begun <- ctx
		select {
		case <-s.finish:
			return &cert.Bundle{Leaf: &x509.Certificate{Raw: []byte("leaf")}}, nil, nil
		case <-ctx.Done():
			return nil, nil, ctx.Err()
		}
	}, nil
}

func (s *slow) List(context.Context, clients.Identity, string, int) ([]managed.Certificate, error) {
	panic("the needle must not be shown")
}

// short is long enough for a handshake on a busy machine.
const short = time.Second

func newSlow(t *testing.T, read, write time.Duration, log io.Writer) *slow {
	t.Helper()
	s := &slow{begun: make(chan context.Context), finish: make(chan struct{})}
	var err error
	if s.store, err = store.Open(t.Context(), store.Config{Path: filepath.Join(t.TempDir(), "db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.store.Close() })
	token, verifier := auth.NewBearer()
	s.token = token
	if _, err := s.store.CreateClient(t.Context(), clients.Client{Name: "web1"}, clients.Credential{Kind: clients.Bearer, Verifier: verifier}); err != nil {
		t.Fatal(err)
	}
	logger := slog.New(slog.NewTextHandler(log, nil))
	stopping, stop := context.WithCancel(context.Background())
	s.stop = stop
	t.Cleanup(stop)
	s.server = httptest.NewUnstartedServer(rest.New(rest.Config{
		Auth: auth.New(auth.Config{Store: s.store}), Audit: audit.New(audit.Config{Store: s.store, Logger: logger}),
		Agent: s, Begin: s.begin, Health: s.store.Ping, Stopping: stopping, Logger: logger, Now: time.Now,
	}))
	s.server.Config.ReadTimeout, s.server.Config.WriteTimeout = read, write
	s.server.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, 0)
	s.server.EnableHTTP2 = true
	s.server.StartTLS()
	t.Cleanup(s.server.Close)
	return s
}

func (s *slow) client(t *testing.T, version string) *http.Client {
	transport := &http.Transport{
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true, NextProtos: []string{version}},
		ForceAttemptHTTP2: version == "h2",
	}
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func (s *slow) request(ctx context.Context, t *testing.T, method, path, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	return req
}

// idle returns after the server has closed a silent connection.
func (s *slow) idle(t *testing.T) {
	t.Helper()
	conn, err := net.Dial("tcp", s.server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_, _ = io.Copy(io.Discard, conn) // until it hangs up, in whichever way
}

var streams = map[string]struct{ method, path, body, want string }{
	"long poll": {"GET", api.PathCertificates + "/x/bundle?wait=60s", "", "sealed"},
	"stream":    {"POST", api.PathCertificates, object("mode", "gateway", "names", []string{"a.example.com"}), `"chain":"-----BEGIN CERTIFICATE-----`},
}

// The server's limits are for requests and quick answers: what takes long by
// its nature outlives them, and ends with its client.
func TestLongAnswers(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, version string) {
		for name, r := range streams {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := newSlow(t, short, short*3/2, io.Discard)
				client := s.client(t, version)
				answer := make(chan string)
				ask := func(ctx context.Context) {
					resp, err := client.Do(s.request(ctx, t, r.method, r.path, r.body))
					if err != nil {
						answer <- err.Error()
						return
					}
					defer resp.Body.Close()
					body, err := io.ReadAll(resp.Body)
					if err != nil {
						body = []byte(err.Error())
					}
					answer <- string(body)
				}
				go ask(t.Context())
				working := <-s.begun
				for range 2 { // each takes as long as ReadTimeout, so all limits have passed
					s.idle(t)
				}
				if err := working.Err(); err != nil {
					t.Errorf("the work was ended: %v", err)
				}
				s.finish <- struct{}{}
				if got := <-answer; !strings.Contains(got, r.want) {
					t.Errorf("answer %q", got)
				}
				// And the client's leaving ends it at once.
				ctx, leave := context.WithCancel(t.Context())
				go ask(ctx)
				working = <-s.begun
				leave()
				<-working.Done()
				<-answer
			})
		}
	})
}

// A stop answers long polls at once, and lets issuances finish.
func TestStopping(t *testing.T) {
	t.Parallel()
	s := newSlow(t, time.Minute, time.Minute, io.Discard)
	answer := make(chan *http.Response)
	for _, name := range []string{"long poll", "stream"} {
		r := streams[name]
		go func() {
			resp, err := s.client(t, "h2").Do(s.request(t.Context(), t, r.method, r.path, r.body))
			if err != nil {
				t.Error(err)
			}
			answer <- resp
		}()
		<-s.begun
		if name == "stream" {
			resp := <-answer // its headers
			s.stop()
			poll := <-answer
			poll.Body.Close()
			if poll.StatusCode != http.StatusNotFound {
				t.Errorf("the long poll: %d", poll.StatusCode)
			}
			s.finish <- struct{}{}
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if err != nil || !strings.Contains(string(body), "chain") {
				t.Errorf("the issuance: %q, %v", body, err)
			}
		}
	}
}

// lines is a log that a test can wait for.
type lines chan string

func (l lines) Write(b []byte) (int, error) { l <- string(b); return len(b), nil }

// A panic is a 500 problem and an error in the log, without the panic's text.
func TestPanic(t *testing.T) {
	t.Parallel()
	log := make(lines, 100)
	s := newSlow(t, time.Minute, time.Minute, log)
	resp, err := s.client(t, "h2").Do(s.request(t.Context(), t, "GET", api.PathCertificates, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	response{resp.StatusCode, resp.Proto, resp.Header, string(body)}.refused(t, "", "needle", http.StatusInternalServerError)
	if line := <-log; !strings.Contains(line, "level=ERROR") || !strings.Contains(line, "deadline_test.go") || strings.Contains(line, "needle") {
		t.Errorf("log %q", line)
	}
	// So are a store's faults.
	s.store.Close()
	for _, path := range []string{api.PathClient, api.PathCertificates} {
		resp, err := s.client(t, "http/1.1").Do(s.request(t.Context(), t, "GET", path, ""))
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil {
			t.Fatal(err)
		}
		response{resp.StatusCode, resp.Proto, resp.Header, string(body)}.refused(t, "", "database", http.StatusInternalServerError)
	}
	health, err := s.client(t, "http/1.1").Do(s.request(t.Context(), t, "GET", api.PathHealth, ""))
	if err != nil {
		t.Fatal(err)
	}
	health.Body.Close()
	if health.StatusCode != http.StatusServiceUnavailable || health.Header.Get("Content-Type") != api.TypeHealth {
		t.Errorf("health: %d %v", health.StatusCode, health.Header)
	}
}

// A body that does not come cannot hold its connection, be it one that a GET
// should not have. (Were WriteTimeout as short, the answer might be late: TLS
// counts the record that it cannot send any more, so the next one, which says
// good-bye, looks forged to the client.)
func TestSlowBody(t *testing.T) {
	t.Parallel()
	s := newSlow(t, short, time.Minute, io.Discard)
	for _, line := range []string{"POST " + api.PathCertificates, "GET " + streams["long poll"].path} {
		conn, err := tls.Dial("tcp", strings.TrimPrefix(s.server.URL, "https://"), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"http/1.1"}})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\nAuthorization: Bearer "+s.token+"\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		if resp, body := rawhttp.Answer(t, conn, line); resp.StatusCode != http.StatusRequestTimeout || !strings.Contains(body, `"detail":"body: `) {
			t.Errorf("%s: %d %s", line, resp.StatusCode, body)
		}
		if _, err := io.Copy(io.Discard, conn); err != nil && !strings.Contains(err.Error(), net.ErrClosed.Error()) && !strings.Contains(err.Error(), "reset") {
			t.Errorf("%s: the connection: %v", line, err)
		}
	}
}
