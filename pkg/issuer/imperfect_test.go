package issuer_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// trouble answers a request in Pebble's place, or changes Pebble's answer. It
// reports false if the request is to be answered by Pebble.
type trouble func(w http.ResponseWriter, r *http.Request, next http.Handler) bool

// troubles are those of several issuers at one Pebble, by user agent.
type troubles struct {
	mu sync.Mutex
	of map[string]trouble // guarded by mu
}

func (ts *troubles) set(agent string, t trouble) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.of == nil {
		ts.of = map[string]trouble{}
	}
	ts.of[agent] = t
}

func (ts *troubles) wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		agent, _, _ := strings.Cut(r.UserAgent(), " ")
		ts.mu.Lock()
		t := ts.of[agent]
		ts.mu.Unlock()
		if t == nil || !t(w, r, next) {
			next.ServeHTTP(w, r)
		}
	})
}

// once is a trouble with the first request of a kind.
func once(kind string, t trouble) trouble { return times(1, kind, t) }

// times is a trouble with the first requests of a kind.
func times(n int32, kind string, t trouble) trouble {
	var seen atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		return pebbletest.Kind(r) == kind && seen.Add(1) <= n && t(w, r, next)
	}
}

// says answers with a status, and a problem document unless typ is empty.
func says(status int, typ string) trouble {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
		if typ == "" {
			w.WriteHeader(status)
			fmt.Fprint(w, "<html>says a firewall")
			return true
		}
		w.WriteHeader(status)
		fmt.Fprintf(w, `{"type":"urn:ietf:params:acme:error:%s","detail":"says the CA"}`, typ)
		return true
	}
}

func cutBefore(http.ResponseWriter, *http.Request, http.Handler) bool { panic(http.ErrAbortHandler) }

func cutAfter(_ http.ResponseWriter, r *http.Request, next http.Handler) bool {
	next.ServeHTTP(httptest.NewRecorder(), r)
	panic(http.ErrAbortHandler)
}

// changed is Pebble's answer, body and headers changed.
func changed(change func(h http.Header, body []byte) []byte) trouble {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		body := change(answer.Header(), answer.Body.Bytes())
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.Header().Del("Content-Length")
		w.WriteHeader(answer.Code)
		w.Write(body)
		return true
	}
}

// fields is Pebble's answer with fields of its document changed.
func fields(change func(document map[string]any)) trouble {
	return changed(func(_ http.Header, body []byte) []byte {
		var document map[string]any
		if json.Unmarshal(body, &document) != nil {
			return body
		}
		change(document)
		body, _ = json.Marshal(document)
		return body
	})
}

// Whichever answer is odd, once, the issuance ends with a certificate and
// one order; only an answer to newOrder that got lost may cost another one.
func TestOneOddAnswer(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	kinds := []string{
		pebbletest.Directory, pebbletest.NewNonce, pebbletest.NewAccount, pebbletest.NewOrder, pebbletest.Authorization,
		pebbletest.Challenge, pebbletest.Order, pebbletest.Finalize, pebbletest.Certificate,
	}
	odd := map[string]trouble{
		"500": says(500, "serverInternal"), "503": says(503, ""), "404": says(404, "malformed"),
		"a firewall's page": says(403, ""), "junk": says(200, ""),
		"a 500 of another type": says(500, "malformed"), "bad nonce": says(400, "badNonce"),
		"cut before": cutBefore, "cut after": cutAfter,
	}
	cases := map[string]trouble{
		"finalize not ready":       once(pebbletest.Finalize, says(403, "orderNotReady")),
		"challenge valid already":  once(pebbletest.Challenge, told(says(400, "malformed"))),
		"finalized, says pending":  once(pebbletest.Finalize, status("pending")),
		"finalized, says ready":    once(pebbletest.Finalize, status("ready")),
		"finalized, valid, no URL": once(pebbletest.Finalize, status("valid")),
		"poll: valid, no URL":      times(2, pebbletest.Order, status("valid")),
		"poll: nothing":            once(pebbletest.Order, changed(func(http.Header, []byte) []byte { return []byte("{}") })),
		"poll: another order": once(pebbletest.Order, fields(func(d map[string]any) {
			d["identifiers"] = []any{map[string]any{"type": "dns", "value": "evil.example"}}
		})),
		"chain: empty":              once(pebbletest.Certificate, changed(func(http.Header, []byte) []byte { return nil })),
		"account unknown for once":  once(pebbletest.Challenge, says(400, "accountDoesNotExist")),
		"redirect to a portal":      once(pebbletest.Order, redirect),
		"finalize fails three time": times(3, pebbletest.Finalize, says(500, "serverInternal")),
	}
	for _, kind := range kinds {
		for what, t := range odd {
			cases[kind+" "+what] = once(kind, t)
		}
	}
	n := 0
	for name, trouble := range cases {
		n++
		agent, host := fmt.Sprintf("case-%d", n), fmt.Sprintf("c%d.odd.example.com", n)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orders := 0
			ts.set(agent, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if pebbletest.Kind(r) != pebbletest.NewOrder {
					return trouble(w, r, next)
				}
				return trouble(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					orders++
					next.ServeHTTP(w, r)
				})) || func() bool { orders++; return false }()
			})
			is := e.another(t, func(cfg *testConfig) { cfg.UserAgent, cfg.Accounts = agent, &memoryAccounts{} })
			if _, err := is.Issue(t.Context(), ec(names(t, host)), nil); err != nil {
				t.Error(err)
			}
			lost := strings.HasPrefix(name, pebbletest.NewOrder+" cut after")
			if most := map[bool]int{false: 1, true: 2}[lost]; orders > most {
				t.Errorf("%d orders, want %d at most", orders, most)
			}
		})
	}
}

// told lets Pebble handle the request, and answers otherwise.
func told(t trouble) trouble {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		w.Header().Set("Replay-Nonce", answer.Header().Get("Replay-Nonce"))
		return t(w, r, next)
	}
}

// status is an order's answer that lags behind.
func status(status string) trouble {
	return fields(func(d map[string]any) { d["status"] = status; delete(d, "certificate") })
}

func redirect(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	http.Redirect(w, r, "/dir", http.StatusFound)
	return true
}

// What the CA asks for wins: a rate limit of hours is not tried again at
// once, and a cancelled issuance does not wait for the next try.
func TestNotTriedAgain(t *testing.T) {
	t.Parallel()
	var ts troubles
	var asked atomic.Int32
	cancelled, cancel := context.WithCancel(t.Context())
	defer cancel()
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, c := range map[string]struct {
		header string
		typ    string
		ctx    context.Context
	}{
		"limited":       {"7200", "rateLimited", t.Context()},
		"limited, when": {"", "rateLimited", t.Context()},
		"unwell":        {"7200", "serverInternal", t.Context()},
		"cancelled":     {"20", "serverInternal", cancelled},
	} {
		agent := strings.Fields(name)[0] + c.header
		asked.Store(0)
		ts.set(agent, times(100, pebbletest.NewOrder, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			asked.Add(1)
			if c.ctx == cancelled {
				defer cancel()
			}
			if c.header != "" {
				w.Header().Set("Retry-After", c.header)
			}
			return says(503, c.typ)(w, r, next)
		}))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = agent })
		if _, err := is.Issue(c.ctx, ec(names(t, "again.example.com")), nil); err == nil || asked.Load() != 1 {
			t.Errorf("%s: %v after %d requests, want an error after one", name, err, asked.Load())
		}
	}
}

// journalled is a request that is continued later, as a managed certificate's.
func journalled(t *testing.T, host string, orderURL *string) cert.Request {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := cert.NewCSR(key, names(t, host))
	if err != nil {
		t.Fatal(err)
	}
	return cert.Request{CSR: csr, OnOrder: func(_ context.Context, url cert.Order) error {
		*orderURL = url.URL
		return nil
	}}
}

// An attempt that ends while the CA is still validating leaves the answer
// in place; the next one finishes the same order, and takes the answer away.
func TestAnswerStaysWhileTheCAValidates(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	later := func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		w.Header().Set("Retry-After", "3600")
		return says(503, "serverInternal")(w, r, next)
	}
	for name, kind := range map[string]string{"poll": pebbletest.Order, "challenge": pebbletest.Challenge} {
		t.Run(name, func(t *testing.T) {
			ts.set(name, times(1, kind, told(later)))
			is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = name })
			var orderURL string
			req := journalled(t, name+".stays.example.com", &orderURL)
			var failed *acme.Error
			if _, err := is.Issue(t.Context(), req, nil); !errors.As(err, &failed) || failed.Kind != acme.Temporary {
				t.Fatalf("%v, want a temporary error", err)
			}
			if n := e.responder.Len(); n != 1 {
				t.Errorf("%d answers while the order is open, want 1", n)
			}
			e.ca.Requests().Reset()
			req.Order.URL = orderURL
			if _, err := is.Issue(t.Context(), req, nil); err != nil {
				t.Fatal(err)
			}
			if n := e.ca.Requests().Count(pebbletest.NewOrder); n != 0 || e.responder.Len() != 0 {
				t.Errorf("%d more orders, %d answers left", n, e.responder.Len())
			}
		})
	}
	t.Run("again and again", func(t *testing.T) {
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "again" })
		var orderURL string
		req := journalled(t, "again.stays.example.com", &orderURL)
		// The first two ends come after the challenge, the others before.
		for _, kind := range []string{pebbletest.Challenge, pebbletest.Challenge, pebbletest.Authorization, pebbletest.Order} {
			ts.set("again", times(1, kind, later))
			if _, err := is.Issue(t.Context(), req, nil); err == nil {
				t.Fatal("issued")
			}
			req.Order.URL = orderURL
			if n := e.responder.Len(); n != 1 {
				t.Errorf("%d answers after %s failed, want 1", n, kind)
			}
		}
		if _, err := is.Issue(t.Context(), req, nil); err != nil || e.responder.Len() != 0 {
			t.Errorf("%v, %d answers left", err, e.responder.Len())
		}
	})
	t.Run("given up", func(t *testing.T) { // nobody will continue it
		ts.set("given", times(1, pebbletest.Order, later))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "given" })
		if _, err := is.Issue(t.Context(), ec(names(t, "given.stays.example.com")), nil); err == nil || e.responder.Len() != 0 {
			t.Errorf("%v, %d answers left", err, e.responder.Len())
		}
	})
	t.Run("closed", func(t *testing.T) {
		ts.set("closed", times(1, pebbletest.Order, later))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "closed" })
		var orderURL string
		if _, err := is.Issue(t.Context(), journalled(t, "closed.stays.example.com", &orderURL), nil); err == nil {
			t.Error("issued")
		}
		if err := is.Close(); err != nil || e.responder.Len() != 0 {
			t.Errorf("%v, %d answers left", err, e.responder.Len())
		}
	})
}

// TLS-ALPN-01 answers stay as well, and give way to the next order for the
// same name.
func TestTLSALPNAnswerStays(t *testing.T) {
	t.Parallel()
	var ts troubles
	e, answers := startTLS(t, ts.wrap)
	ts.set("stays", once(pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		w.Header().Set("Retry-After", "3600")
		return says(503, "serverInternal")(w, r, next)
	}))
	is := e.another(t, func(cfg *testConfig) {
		cfg.UserAgent, cfg.Challenge, cfg.TLSALPN = "stays", acme.TLSALPN01, answers
	})
	var orderURL string
	if _, err := is.Issue(t.Context(), journalled(t, "stays.example.com", &orderURL), nil); err == nil {
		t.Fatal("issued")
	}
	if n := answers.Len(); n != 1 {
		t.Errorf("%d answers while the order is open, want 1", n)
	}
	if _, err := is.Issue(t.Context(), ec(names(t, "stays.example.com")), nil); err != nil {
		t.Error(err)
	}
	if n := answers.Len(); n != 0 {
		t.Errorf("%d answers left", n)
	}
}

// A challenge that has failed ends the wait with the CA's reason, although
// its authorization and its order stay pending, as some CAs leave them.
func TestChallengeInvalidAuthorizationPending(t *testing.T) {
	t.Parallel()
	var ts troubles
	e, answers := startTLS(t, ts.wrap)
	fail := func(d map[string]any) {
		d["status"] = "invalid"
		d["error"] = map[string]any{"type": "urn:ietf:params:acme:error:dns", "detail": "no such host, says the CA"}
	}
	for _, kind := range []string{acme.HTTP01, acme.TLSALPN01} {
		for _, at := range []string{"poll", "once"} {
			t.Run(kind+" "+at, func(t *testing.T) {
				t.Parallel()
				var begun atomic.Bool
				agent := kind + at
				authz := fields(func(d map[string]any) {
					d["status"] = "pending"
					for _, c := range d["challenges"].([]any) {
						if c := c.(map[string]any); begun.Load() && c["type"] == kind {
							fail(c)
						}
					}
				})
				ts.set(agent, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
					switch pebbletest.Kind(r) {
					case pebbletest.Authorization:
						return authz(w, r, next)
					case pebbletest.Order:
						return status("pending")(w, r, next)
					case pebbletest.Challenge:
						begun.Store(true)
						return at == "once" && fields(fail)(w, r, next)
					}
					return false
				})
				is := e.another(t, func(cfg *testConfig) {
					cfg.UserAgent, cfg.Challenge, cfg.TLSALPN, cfg.Responder = agent, kind, answers, e.responder
				})
				_, err := is.Issue(t.Context(), ec(names(t, at+"."+kind+".example.com")), nil)
				var failed *acme.Error
				if !errors.As(err, &failed) || failed.Kind != acme.Permanent || !strings.Contains(err.Error(), "no such host, says the CA") {
					t.Errorf("%v, want the CA's reason", err)
				}
			})
		}
	}
}

// The HTTP status decides first, and a page that is no problem document is
// not an answer from the CA.
func TestKindsOfRefusals(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, c := range map[string]struct {
		trouble trouble
		kind    acme.Kind
	}{
		"500-malformed":    {says(500, "malformed"), acme.Temporary},
		"503-unauthorized": {says(503, "unauthorized"), acme.Temporary},
		"403-page":         {says(403, ""), acme.Temporary},
		"401-page":         {says(401, ""), acme.Temporary},
		"403-unauthorized": {says(403, "unauthorized"), acme.Permanent},
		"400-rejected":     {says(400, "rejectedIdentifier"), acme.Permanent},
		"429-page":         {says(429, ""), acme.RateLimited},
		"429-malformed":    {says(429, "malformed"), acme.RateLimited},
		"lying": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:malformed","status":400,"detail":"x"}`)
			return true
		}, acme.Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, times(1000, pebbletest.NewOrder, c.trouble))
			is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = name })
			_, err := is.Issue(t.Context(), ec(names(t, "kinds.example.com")), nil)
			var failed *acme.Error
			if !errors.As(err, &failed) || failed.Kind != c.kind {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
}
