package acmeserver_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// serve sends a request without a body and without checks of the answer.
func serve(t *testing.T, h http.Handler, method, url string) *reply {
	t.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), method, url, http.NoBody))
	return &reply{t: t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// C5: what does not exist, and a wrong method, are problem documents with a nonce. No
// request is redirected, because it is signed for one URL.
func TestUnknownPaths(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	for _, path := range []string{
		"/nothing", "/new-nonce/", "//directory", "/a/../directory", "/./directory", "/account", "/account/",
		"/at/x", "/at//directory", "/at/x/nothing", "/order/", "/%2e%2e/directory", "/directory/x",
	} {
		c.get(path).refused(acme.Malformed, http.StatusNotFound)
		c.do(http.MethodPost, baseURL+path, []byte("{}")).refused(acme.Malformed, http.StatusNotFound)
	}
	for path, allowed := range map[string]string{
		"/new-account": "POST", "/at/x/new-account": "POST", "/new-order": "POST", "/revoke-cert": "POST",
		"/key-change": "POST", "/account/x": "POST", "/account/x/orders": "POST", "/order/x": "POST",
		"/order/x/finalize": "POST", "/authorization/x/0": "POST", "/challenge/x/0/http-01": "POST",
		"/certificate/x": "POST", "/certificate/x/1": "POST",
		"": "GET, HEAD, POST", "/": "GET, HEAD, POST", "/directory": "GET, HEAD, POST",
		"/new-nonce": "GET, HEAD, POST", "/terms": "GET, HEAD, POST", "/renewal-info/x": "GET, HEAD",
		"/at/x/directory": "GET, HEAD, POST", "/at/x/new-nonce": "GET, HEAD, POST",
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete, "CÜRL\n"} {
			if strings.Contains(allowed, method) {
				continue
			}
			r := do(c, method, baseURL+path)
			r.refused(acme.Malformed, http.StatusMethodNotAllowed)
			if got := r.header.Get("Allow"); got != allowed {
				t.Errorf("%s %s: Allow is %q", method, path, got)
			}
		}
	}
}

// do sends a request with any method.
func do(c *raw, method, url string) *reply {
	c.t.Helper()
	req := httptest.NewRequestWithContext(c.t.Context(), http.MethodGet, url, http.NoBody)
	req.Method = method
	w := httptest.NewRecorder()
	c.h.ServeHTTP(w, req)
	return &reply{t: c.t, status: w.Code, header: w.Header(), body: w.Body.Bytes()}
}

// C1: a server works at each base of a mux, two of them in one process.
func TestBases(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"https://ca.example.com", "https://ca.example.com/", "https://ca.example.com/acme/",
		"http://localhost:8000/a/b%20c", "https://[2001:db8::1]/ca",
	} {
		s := newServer(t, func(c *acmeserver.Config) { c.URL = base })
		mux := http.NewServeMux()
		mux.Handle("/", s)
		plain := strings.TrimSuffix(base, "/")
		for _, path := range []string{"", "/", "/directory"} {
			if plain+path == "https://ca.example.com" {
				continue // clients send the path /
			}
			d := serve(t, mux, http.MethodGet, plain+path).want(http.StatusOK).object()
			if d["newOrder"] != plain+"/new-order" {
				t.Errorf("%s%s: newOrder is %v", base, path, d["newOrder"])
			}
		}
		c := newRaw(t, mux)
		c.nonce = serve(t, mux, http.MethodHead, plain+"/new-nonce").header.Get("Replay-Nonce")
		r := c.post(plain+"/new-account", object{}).want(http.StatusCreated)
		c.kid = r.header.Get("Location")
		c.post(c.kid, nil).want(http.StatusOK)
	}
	first := newServer(t, nil)
	second := newServer(t, func(c *acmeserver.Config) { c.URL = "https://ca.example.com/other" })
	mux := http.NewServeMux()
	mux.Handle("/acme/", first)
	mux.Handle("/other/", second)
	c := newRaw(t, mux)
	c.register(nil).want(http.StatusCreated)
	c.nonce = serve(t, mux, http.MethodHead, "https://ca.example.com/other/new-nonce").header.Get("Replay-Nonce")
	c.post("https://ca.example.com/other/new-order", object{}).refused(acme.AccountDoesNotExist, http.StatusBadRequest)
}

// C1: New names the fault of a URL.
func TestNewRefusesURL(t *testing.T) {
	t.Parallel()
	for _, u := range []string{
		"", "ca.example.com/acme", "ftp://ca.example.com", "https:///acme", "https://ca.example.com/?a",
		"https://ca.example.com/#a", "https://ca.example.com//acme", "https://ca.example.com/a/../b",
		"https://user@ca.example.com/", "https://ca.example.com/acme//", "%",
	} {
		_, err := acmeserver.New(acmeserver.Config{URL: u, Storage: acmeserver.NewMemory(), Issuer: noIssuer{}})
		if err == nil || !strings.Contains(err.Error(), "URL") {
			t.Errorf("%q: %v", u, err)
		}
	}
	_, err := acmeserver.New(acmeserver.Config{URL: baseURL, Issuer: noIssuer{}})
	_, err2 := acmeserver.New(acmeserver.Config{URL: baseURL, Storage: acmeserver.NewMemory()})
	if err == nil || err2 == nil {
		t.Error("a configuration without storage or issuer is accepted")
	}
}

// C4: a body that is too large, or of another content type, is refused.
func TestRequestForm(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) { c.Limits.Body = 1000 })
	c := newRaw(t, s)
	url := baseURL + "/new-account"
	c.do(http.MethodPost, url, bytes.Repeat([]byte(" "), 1001)).refused(acme.Malformed, http.StatusRequestEntityTooLarge)
	for kind, status := range map[string]int{
		"": http.StatusUnsupportedMediaType, "application/json": http.StatusUnsupportedMediaType,
		"application/jose+json; charset=utf-8": http.StatusCreated, "Application/JOSE+JSON": http.StatusOK,
	} {
		t.Run(kind, func(t *testing.T) {
			c.get("/new-nonce")
			body := signed(c.key, c.protected(url), object{})
			req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
			req.Header.Set("Content-Type", kind)
			w := httptest.NewRecorder()
			s.ServeHTTP(w, req)
			if w.Code != status && (status >= 300 || w.Code >= 300) {
				t.Errorf("%d instead of %d: %s", w.Code, status, w.Body)
			}
		})
	}
}

// C5: a client that sends without an end reads 413, and its connection ends.
func TestEndlessBody(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newServer(t, func(c *acmeserver.Config) { c.URL = "http://127.0.0.1" }))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, server.URL+"/new-order", endless{})
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/jose+json")
	resp, err := server.Client().Do(req)
	if err != nil {
		return // the connection ended before the client read the answer
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge || !resp.Close {
		t.Errorf("status %d, close %v", resp.StatusCode, resp.Close)
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

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

// C5, X4: a problem keeps its type, details and identifiers, and becomes harmless on a
// terminal. Its own status counts if it is one of a failure.
func TestProblemAnswer(t *testing.T) {
	t.Parallel()
	var allow error
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(acmeserver.Account, netip.Addr) error { return allow }}
	}))
	c.register(nil).want(http.StatusCreated)
	id := acme.Identifier{Type: "dns", Value: "a.example\x1b"}
	given := &acme.Problem{
		Type: acme.RejectedIdentifier, Detail: "no\x1b[2J", Identifier: &id,
		Subproblems: []acme.Subproblem{{Type: acme.DNS, Detail: "n\no", Identifier: id}},
	}
	allow = given
	p := c.post(c.kid, nil).refused(acme.RejectedIdentifier, http.StatusBadRequest)
	if p.Detail != `no\u001b[2J` || p.Identifier.Value != `a.example\u001b` ||
		p.Subproblems[0].Detail != `n\no` || p.Subproblems[0].Identifier.Value != `a.example\u001b` {
		t.Errorf("%+v", p)
	}
	if given.Status != 0 || id.Value != "a.example\x1b" || given.Subproblems[0].Detail != "n\no" {
		t.Errorf("the caller's problem changed: %+v", given)
	}
	for kind, status := range map[string]int{
		acme.Malformed: 400, acme.BadCSR: 400, acme.AlreadyRevoked: 400, acme.AccountDoesNotExist: 400,
		acme.Unauthorized: 403, acme.OrderNotReady: 403, acme.UserActionRequired: 403, acme.ExternalAccountNeeded: 403,
		acme.AlreadyReplaced: 409, acme.RateLimit: 429, acme.ServerInternal: 500, "urn:example:mine": 400,
	} {
		for given, want := range map[int]int{
			0: status, 200: status, 99: status, 1000: status, -1: status, 404: 404, 503: 503,
		} {
			allow = &acme.Problem{Type: kind, Status: given, Detail: "no"}
			c.post(c.kid, nil).refused(kind, want)
		}
	}
	allow = &acme.Problem{Detail: "no"}
	c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
}

// X5: Retry-After is in full seconds, at least one.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	var allow error
	c := newRaw(t, newServer(t, func(c *acmeserver.Config) {
		c.Accounts = &rules{allow: func(acmeserver.Account, netip.Addr) error { return allow }}
	}))
	c.register(nil).want(http.StatusCreated)
	for after, want := range map[time.Duration]string{
		0: "", time.Millisecond: "1", time.Second: "1", 1500 * time.Millisecond: "2", 5 * time.Minute: "300",
	} {
		allow = errors.Join(&acmeserver.Refusal{
			Problem: &acme.Problem{Type: acme.RateLimit, Detail: "wait"}, RetryAfter: after,
		})
		r := c.post(c.kid, nil)
		r.refused(acme.RateLimit, http.StatusTooManyRequests)
		if got := r.header.Get("Retry-After"); got != want {
			t.Errorf("%v: Retry-After is %q", after, got)
		}
	}
	allow = &acmeserver.Refusal{}
	c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
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

// C2: the directory has all URLs, and meta has what clients look for.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s := newServer(t, func(c *acmeserver.Config) {
		c.Website = "https://example.com/?a&b"
		c.CAAIdentities = []string{"example.com"}
		c.Profiles = map[string]string{"short": "six days"}
		c.Accounts = &rules{requires: func(entrance string) (bool, error) {
			switch entrance {
			case "":
				return true, nil
			case "hunter2":
				return false, nil
			}
			return false, acmeserver.ErrNotFound
		}}
	})
	c := newRaw(t, s)
	urls := map[string]string{
		"newNonce": "/new-nonce", "newAccount": "/new-account", "newOrder": "/new-order",
		"revokeCert": "/revoke-cert", "keyChange": "/key-change", "renewalInfo": "/renewal-info",
	}
	for at, required := range map[string]bool{"": true, "/at/hunter2": false} {
		r := c.get(at + "/directory").want(http.StatusOK)
		if got := r.link("index"); got != baseURL+at+"/directory" || r.header.Get("Content-Type") != "application/json" {
			t.Errorf("index link %q, header %v", got, r.header)
		}
		if bytes.Contains(r.body, []byte(`\u0026`)) {
			t.Errorf("escaped for HTML: %s", r.body)
		}
		d := r.object()
		m := d["meta"].(object)
		delete(d, "meta")
		if keys := slices.Sorted(maps.Keys(d)); !slices.Equal(keys, slices.Sorted(maps.Keys(urls))) {
			t.Errorf("the directory has %v", keys)
		}
		for name, path := range urls {
			if name == "newAccount" || name == "newNonce" {
				path = at + path
			}
			if d[name] != baseURL+path {
				t.Errorf("%s is %v", name, d[name])
			}
		}
		if m["externalAccountRequired"] != required || m["website"] != "https://example.com/?a&b" ||
			m["termsOfService"] != baseURL+"/terms" || m["profiles"].(object)["short"] != "six days" ||
			!slices.Equal(m["caaIdentities"].([]any), []any{"example.com"}) {
			t.Errorf("meta: %v", m)
		}
	}
	c.do(http.MethodHead, baseURL+"/directory", nil).want(http.StatusOK)
	c.get("/at/hunter3/directory").refused(acme.Malformed, http.StatusNotFound)
	terms := c.get("/terms").want(http.StatusOK)
	if kind := terms.header.Get("Content-Type"); !strings.HasPrefix(kind, "text/plain") || len(terms.body) == 0 {
		t.Errorf("terms: %s %q", kind, terms.body)
	}
	other := newRaw(t, newServer(t, func(c *acmeserver.Config) { c.Terms = "https://example.com/terms" }))
	m := other.get("/directory").object()["meta"].(object)
	if m["termsOfService"] != "https://example.com/terms" || m["website"] != nil || m["profiles"] != nil {
		t.Errorf("meta: %v", m)
	}
	other.get("/terms").refused(acme.Malformed, http.StatusNotFound)
}

// C2, RFC 8555, section 6.3: POST-as-GET reads what GET reads.
func TestPostAsGet(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	for path, status := range map[string]int{
		"/directory": http.StatusOK, "": http.StatusOK, "/terms": http.StatusOK, "/new-nonce": http.StatusNoContent,
	} {
		want := c.get(path).want(status)
		if got := c.post(baseURL+path, nil).want(status); string(got.body) != string(want.body) {
			t.Errorf("%s: %s", path, got.body)
		}
		c.post(baseURL+path, object{}).refused(acme.Malformed, http.StatusBadRequest)
	}
}

// C2: HEAD of the real thing has no body, and the same header as GET.
func TestHead(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(newServer(t, func(c *acmeserver.Config) { c.URL = "http://127.0.0.1" }))
	defer server.Close()
	for path, status := range map[string]int{"/directory": 200, "/new-nonce": 200, "/nothing": 404, "/new-order": 405} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodHead, server.URL+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || len(body) > 0 || resp.StatusCode != status || resp.Header.Get("Replay-Nonce") == "" ||
			resp.Header.Get("Link") != `<http://127.0.0.1/directory>;rel="index"` {
			t.Errorf("%s: %d %q %v %v", path, resp.StatusCode, body, resp.Header, err)
		}
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
