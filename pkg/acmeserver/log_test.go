package acmeserver_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// logs collects log events.
type logs struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

func (l *logs) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// take returns the events so far and forgets them.
func (l *logs) take() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.text.Reset()
	return l.text.String()
}

func (l *logs) logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{
		Level: slog.LevelDebug,
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == "time" || a.Key == "took" {
				return slog.Attr{}
			}
			return a
		},
	}))
}

// C4: a request that is signed for another URL is refused. The answer has the right one,
// the log has both, and neither has anything secret in the log.
func TestWrongURL(t *testing.T) {
	t.Parallel()
	var log logs
	s := newServer(t, func(c *acmeserver.Config) {
		c.Logger = log.logger()
		c.Accounts = &rules{requires: func(string) (bool, error) { return false, nil }}
	})
	c := newRaw(t, s)
	sent := baseURL + "/at/hunter2/new-account"
	for signedFor, logged := range map[string]string{
		"https://other.example.net/at/hunter3/new-account?token=x": "https://other.example.net/at/…/new-account",
		"https://ca.example.com/acme/%61t/hunter6/new-account":     baseURL + "/%61t/…/new-account",
		"http://u:hunter4@ca.example.com/acme/new-account":         "http://ca.example.com/acme/new-account",
		sent + "?":              baseURL + "/at/…/new-account",
		sent + "/":              baseURL + "/at/…/new-account/",
		"mailto:hunter5":        `"(no URL)"`,
		"":                      `""`,
		"/acme/at/h/\x1b[2J/at": `"(no URL)"`,
	} {
		c.get("/new-nonce")
		log.take()
		body := signed(c.key, c.protected(signedFor), object{})
		r := c.do(http.MethodPost, sent, body)
		if signedFor == "" {
			r.refused(acme.Malformed, http.StatusBadRequest)
			continue
		}
		p := r.refused(acme.Unauthorized, http.StatusUnauthorized)
		if !strings.Contains(p.Detail, baseURL+"/at/…/new-account") {
			t.Errorf("detail: %q", p.Detail)
		}
		got := log.take()
		want := "level=INFO msg=request method=POST route=/at/{entrance}/new-account status=401 " +
			"problem=unauthorized signed=" + logged + " want=" + baseURL + "/at/…/new-account\n"
		if strings.ReplaceAll(got, `"`, "") != strings.ReplaceAll(want, `"`, "") {
			t.Errorf("%q:\n%s\n%s", signedFor, got, want)
		}
	}
	c.get("/new-nonce")
	c.do(http.MethodPost, sent+"?a=b", signed(c.key, c.protected(sent+"?a=b"), object{})).want(http.StatusCreated)
}

// C5: each request is one event: what was wrong with it, but neither path nor details.
func TestRequestLog(t *testing.T) {
	t.Parallel()
	var log logs
	secret := errors.New("the disk of db7.internal is full")
	var allow error
	s := newServer(t, func(c *acmeserver.Config) {
		c.Logger = log.logger()
		c.Accounts = &rules{allow: func(acmeserver.Account, netip.Addr) error { return allow }}
	})
	c := newRaw(t, s)
	c.register(object{"contact": []string{"mailto:hunter2@example.com"}}).want(http.StatusCreated)
	c.get("/new-nonce")
	log.take()
	for _, test := range []struct {
		do   func()
		want string
	}{
		{func() { c.get("/directory") }, "level=DEBUG msg=request method=GET route=/directory status=200\n"},
		{
			func() { c.get("/at/hunter2/directory") },
			"level=DEBUG msg=request method=GET route=/at/{entrance}/directory status=404 problem=malformed\n",
		},
		{func() { c.get("/hunter2") }, "level=DEBUG msg=request method=GET route=other status=404 problem=malformed\n"},
		{
			func() { c.get("/new-order") },
			"level=DEBUG msg=request method=GET route=/new-order status=405 problem=malformed\n",
		},
		{func() { c.post(c.kid, nil) }, "level=DEBUG msg=request method=POST route=/account/{id} status=200\n"},
		{func() {
			allow = &acme.Problem{Type: acme.Unauthorized, Detail: "hunter2"}
			c.post(c.kid, nil).refused(acme.Unauthorized, http.StatusForbidden)
		}, "level=INFO msg=request method=POST route=/account/{id} status=403 problem=unauthorized\n"},
		{func() {
			allow = secret
			c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
		}, "level=ERROR msg=\"request failed\" route=/account/{id} error=\"the disk of db7.internal is full\"\n" +
			"level=WARN msg=request method=POST route=/account/{id} status=500 problem=serverInternal\n"},
		{func() {
			c.nonce = b64([]byte("hunter2"))
			c.post(c.kid, nil).refused(acme.BadNonce, http.StatusBadRequest)
		}, "level=DEBUG msg=request method=POST route=/account/{id} status=400 problem=badNonce\n"},
	} {
		test.do()
		if got := log.take(); got != test.want {
			t.Errorf("got  %s\nwant %s", got, test.want)
		}
	}
}

// C5: refused requests cannot fill the log.
func TestRequestLogBounded(t *testing.T) {
	t.Parallel()
	var log logs
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Logger = log.logger() }))
	for range 200 {
		c.do(http.MethodPost, baseURL+"/new-order", []byte("{}"))
	}
	if n := strings.Count(log.take(), "level=INFO"); n == 0 || n > 100 {
		t.Errorf("%d events", n)
	}
}

// C5: a panic is serverInternal, also its log has no more than its place and type.
func TestPanic(t *testing.T) {
	t.Parallel()
	var log logs
	cause := any("hunter2")
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Logger = log.logger()
		c.Accounts = &rules{requires: func(string) (bool, error) { panic(cause) }}
	}))
	c.get("/directory").refused(acme.ServerInternal, http.StatusInternalServerError)
	got := log.take()
	if strings.Contains(got, "hunter2") || !strings.Contains(got, "status=500") ||
		!strings.Contains(got, "route=/directory cause=string") {
		t.Errorf("log: %s", got)
	}
	cause = errors.Join(http.ErrAbortHandler)
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	c.get("/directory")
}

// brokenPipe is a client that left while it read the answer.
type brokenPipe struct{ http.ResponseWriter }

func (brokenPipe) Write([]byte) (int, error) { panic("a middleware fails") }

// C5: a partial answer ends the connection, so that it does not look complete.
func TestPanicInAnswer(t *testing.T) {
	t.Parallel()
	s := newServer(t, nil)
	defer func() {
		if err, ok := recover().(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			t.Errorf("recovered %v", err)
		}
	}()
	s.ServeHTTP(brokenPipe{httptest.NewRecorder()},
		httptest.NewRequestWithContext(t.Context(), http.MethodGet, baseURL+"/directory", http.NoBody))
}

// C5: the end of a request by its client is no failure of the server.
func TestCancelledRequest(t *testing.T) {
	t.Parallel()
	var log logs
	ctx, cancel := context.WithCancel(t.Context())
	s := newServer(t, func(c *acmeserver.Config) {
		c.Logger = log.logger()
		c.Accounts = &rules{requires: func(string) (bool, error) {
			cancel()
			return false, context.Canceled
		}}
	})
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequestWithContext(ctx, http.MethodGet, baseURL+"/directory", http.NoBody))
	got := log.take()
	if strings.Count(got, "level=DEBUG") != 1 || strings.Count(got, "\n") != 1 || w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, got)
	}
}

// C4: the log gets a foreign URL without an entrance, in a form that is harmless.
func FuzzPrintableURL(f *testing.F) {
	f.Add(baseURL+"/at/", "/directory")
	f.Add("/at/at/", "?#")
	f.Add("https://a:b@\x1b/", "%")
	f.Fuzz(func(t *testing.T, before, after string) {
		const secret = "hunter2"
		if shown := acmeserver.PrintableURL(before + after); len(shown) > 2000 || printable.Line(shown) != shown {
			t.Errorf("%q", shown)
		}
		shown := acmeserver.PrintableURL("https://example.com/at/" + secret + "/" + strings.ReplaceAll(after, secret, ""))
		if strings.Contains(shown, secret) {
			t.Errorf("%q has the entrance", shown)
		}
	})
}
