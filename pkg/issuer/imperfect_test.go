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

// override answers a request instead of Pebble, or changes Pebble's answer. It
// reports false if Pebble must answer the request.
type override func(w http.ResponseWriter, r *http.Request, next http.Handler) bool

// overrides holds the overrides of several issuers at one Pebble, by user agent.
type overrides struct {
	mu sync.Mutex
	of map[string]override // guarded by mu
}

func (ts *overrides) set(agent string, t override) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.of == nil {
		ts.of = map[string]override{}
	}
	ts.of[agent] = t
}

func (ts *overrides) wrap(next http.Handler) http.Handler {
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

// once returns an override for the first request of a kind.
func once(kind string, t override) override { return times(1, kind, t) }

// times returns an override for the first n requests of a kind.
func times(n int32, kind string, t override) override {
	var seen atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		return pebbletest.Kind(r) == kind && seen.Add(1) <= n && t(w, r, next)
	}
}

// respond answers with a status, and a problem document unless typ is empty.
func respond(status int, typ string) override {
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

// changeAnswer returns an override that changes the headers and the body of Pebble's
// answer.
func changeAnswer(change func(h http.Header, body []byte) []byte) override {
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

// fields returns an override that changes the document in Pebble's answer.
func fields(change func(document map[string]any)) override {
	return changeAnswer(func(_ http.Header, body []byte) []byte {
		var document map[string]any
		if json.Unmarshal(body, &document) != nil {
			return body
		}
		change(document)
		body, _ = json.Marshal(document)
		return body
	})
}

// After any single bad answer, the issuance ends with a certificate and one order.
// Only a lost answer to newOrder may cost another order.
func TestOneOddAnswer(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	kinds := []string{
		pebbletest.Directory, pebbletest.NewNonce, pebbletest.NewAccount, pebbletest.NewOrder, pebbletest.Authorization,
		pebbletest.Challenge, pebbletest.Order, pebbletest.Finalize, pebbletest.Certificate,
	}
	odd := map[string]override{
		"500": respond(500, "serverInternal"), "503": respond(503, ""), "404": respond(404, "malformed"),
		"a firewall's page": respond(403, ""), "junk": respond(200, ""),
		"a 500 of another type": respond(500, "malformed"), "bad nonce": respond(400, "badNonce"),
		"cut before": cutBefore, "cut after": cutAfter,
	}
	cases := map[string]override{
		"finalize not ready":       once(pebbletest.Finalize, respond(403, "orderNotReady")),
		"challenge valid already":  once(pebbletest.Challenge, afterPebble(respond(400, "malformed"))),
		"finalized, says pending":  once(pebbletest.Finalize, changeStatus("pending")),
		"finalized, says ready":    once(pebbletest.Finalize, changeStatus("ready")),
		"finalized, valid, no URL": once(pebbletest.Finalize, changeStatus("valid")),
		"poll: valid, no URL":      times(2, pebbletest.Order, changeStatus("valid")),
		"poll: nothing":            once(pebbletest.Order, changeAnswer(func(http.Header, []byte) []byte { return []byte("{}") })),
		"poll: another order": once(pebbletest.Order, fields(func(d map[string]any) {
			d["identifiers"] = []any{map[string]any{"type": "dns", "value": "evil.example"}}
		})),
		"chain: empty":              once(pebbletest.Certificate, changeAnswer(func(http.Header, []byte) []byte { return nil })),
		"account unknown for once":  once(pebbletest.Challenge, respond(400, "accountDoesNotExist")),
		"redirect to a portal":      once(pebbletest.Order, redirect),
		"finalize fails three time": times(3, pebbletest.Finalize, respond(500, "serverInternal")),
	}
	for _, kind := range kinds {
		for what, t := range odd {
			cases[kind+" "+what] = once(kind, t)
		}
	}
	n := 0
	for name, override := range cases {
		n++
		agent, host := fmt.Sprintf("case-%d", n), fmt.Sprintf("c%d.odd.example.com", n)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orders := 0
			ts.set(agent, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
				if pebbletest.Kind(r) != pebbletest.NewOrder {
					return override(w, r, next)
				}
				return override(w, r, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
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

// afterPebble lets Pebble handle the request, and then answers instead of it.
func afterPebble(t override) override {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		answer := httptest.NewRecorder()
		next.ServeHTTP(answer, r)
		w.Header().Set("Replay-Nonce", answer.Header().Get("Replay-Nonce"))
		return t(w, r, next)
	}
}

// changeStatus returns an override that sends an outdated status of an order.
func changeStatus(status string) override {
	return fields(func(d map[string]any) { d["status"] = status; delete(d, "certificate") })
}

func redirect(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
	http.Redirect(w, r, "/dir", http.StatusFound)
	return true
}

// A request with a rate limit of hours is not repeated, and a cancelled issuance
// does not wait for the next attempt.
func TestNotTriedAgain(t *testing.T) {
	t.Parallel()
	var ts overrides
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
			return respond(503, c.typ)(w, r, next)
		}))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = agent })
		if _, err := is.Issue(c.ctx, ec(names(t, "again.example.com")), nil); err == nil || asked.Load() != 1 {
			t.Errorf("%s: %v after %d requests, want an error after one", name, err, asked.Load())
		}
	}
}

// journalled returns a request that can be continued later, like one for a managed
// certificate.
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

// An attempt that ends while the CA is still validating does not remove the answer.
// The next one finishes the same order and removes it.
func TestAnswerStaysWhileTheCAValidates(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	later := func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		w.Header().Set("Retry-After", "3600")
		return respond(503, "serverInternal")(w, r, next)
	}
	for name, kind := range map[string]string{"poll": pebbletest.Order, "challenge": pebbletest.Challenge} {
		t.Run(name, func(t *testing.T) {
			ts.set(name, times(1, kind, afterPebble(later)))
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
		// The first two kinds end after the challenge, the others before.
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
	t.Run("given up", func(t *testing.T) { // the order will not be continued
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

// TLS-ALPN-01 answers stay as well, until the next order for the same name.
func TestTLSALPNAnswerStays(t *testing.T) {
	t.Parallel()
	var ts overrides
	e, answers := startTLS(t, ts.wrap)
	ts.set("stays", once(pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		w.Header().Set("Retry-After", "3600")
		return respond(503, "serverInternal")(w, r, next)
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

// A failed challenge ends the wait with the CA's reason, even if its authorization
// and its order stay pending, as with some CAs.
func TestChallengeInvalidAuthorizationPending(t *testing.T) {
	t.Parallel()
	var ts overrides
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
						return changeStatus("pending")(w, r, next)
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

// The HTTP status decides first. A page without a problem document is not an answer
// from the CA.
func TestKindsOfRefusals(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, c := range map[string]struct {
		override override
		kind     acme.Kind
	}{
		"500-malformed":    {respond(500, "malformed"), acme.Temporary},
		"503-unauthorized": {respond(503, "unauthorized"), acme.Temporary},
		"403-page":         {respond(403, ""), acme.Temporary},
		"401-page":         {respond(401, ""), acme.Temporary},
		"403-unauthorized": {respond(403, "unauthorized"), acme.Permanent},
		"400-rejected":     {respond(400, "rejectedIdentifier"), acme.Permanent},
		"429-page":         {respond(429, ""), acme.RateLimited},
		"429-malformed":    {respond(429, "malformed"), acme.RateLimited},
		"text-status": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusForbidden)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:rejectedIdentifier","status":"403","detail":"x"}`)
			return true
		}, acme.Permanent},
		"lying": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:malformed","status":400,"detail":"x"}`)
			return true
		}, acme.Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, times(1000, pebbletest.NewOrder, c.override))
			is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = name })
			_, err := is.Issue(t.Context(), ec(names(t, "kinds.example.com")), nil)
			var failed *acme.Error
			if !errors.As(err, &failed) || failed.Kind != c.kind {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
}
