package issuer_test

import (
	"bytes"
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
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
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

// B1: whichever answer is odd, once, the issuance ends with a certificate and
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
			is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent, cfg.Accounts = agent, &memoryAccounts{} })
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

// B1: what the CA asks for wins: a rate limit of hours is not tried again at
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
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = agent })
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
	return cert.Request{CSR: csr, OnOrder: func(_ context.Context, url string) error {
		*orderURL = url
		return nil
	}}
}

// B2: an attempt that ends while the CA is still validating leaves the answer
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
			is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = name })
			var orderURL string
			req := journalled(t, name+".stays.example.com", &orderURL)
			var failed *issuer.Error
			if _, err := is.Issue(t.Context(), req, nil); !errors.As(err, &failed) || failed.Kind != issuer.Temporary {
				t.Fatalf("%v, want a temporary error", err)
			}
			if n := e.responder.Len(); n != 1 {
				t.Errorf("%d answers while the order is open, want 1", n)
			}
			e.ca.Requests().Reset()
			req.OrderURL = orderURL
			if _, err := is.Issue(t.Context(), req, nil); err != nil {
				t.Fatal(err)
			}
			if n := e.ca.Requests().Count(pebbletest.NewOrder); n != 0 || e.responder.Len() != 0 {
				t.Errorf("%d more orders, %d answers left", n, e.responder.Len())
			}
		})
	}
	t.Run("given up", func(t *testing.T) { // nobody will continue it
		ts.set("given", times(1, pebbletest.Order, later))
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = "given" })
		if _, err := is.Issue(t.Context(), ec(names(t, "given.stays.example.com")), nil); err == nil || e.responder.Len() != 0 {
			t.Errorf("%v, %d answers left", err, e.responder.Len())
		}
	})
	t.Run("closed", func(t *testing.T) {
		ts.set("closed", times(1, pebbletest.Order, later))
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = "closed" })
		var orderURL string
		if _, err := is.Issue(t.Context(), journalled(t, "closed.stays.example.com", &orderURL), nil); err == nil {
			t.Error("issued")
		}
		if err := is.Close(); err != nil || e.responder.Len() != 0 {
			t.Errorf("%v, %d answers left", err, e.responder.Len())
		}
	})
}

// B2: TLS-ALPN-01 answers stay as well, and give way to the next order for the
// same name.
func TestTLSALPNAnswerStays(t *testing.T) {
	t.Parallel()
	var ts troubles
	e, answers := startTLS(t, ts.wrap)
	ts.set("stays", once(pebbletest.Challenge, func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
		w.Header().Set("Retry-After", "3600")
		return says(503, "serverInternal")(w, r, next)
	}))
	is := e.another(t, func(cfg *issuer.Config) {
		cfg.UserAgent, cfg.Challenge, cfg.TLSALPN = "stays", issuer.TLSALPN01, answers
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

// B3: a challenge that has failed ends the wait with the CA's reason, although
// its authorization and its order stay pending, as some CAs leave them.
func TestChallengeInvalidAuthorizationPending(t *testing.T) {
	t.Parallel()
	var ts troubles
	e, answers := startTLS(t, ts.wrap)
	fail := func(d map[string]any) {
		d["status"] = "invalid"
		d["error"] = map[string]any{"type": "urn:ietf:params:acme:error:dns", "detail": "no such host, says the CA"}
	}
	for _, kind := range []string{issuer.HTTP01, issuer.TLSALPN01} {
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
				is := e.another(t, func(cfg *issuer.Config) {
					cfg.UserAgent, cfg.Challenge, cfg.TLSALPN, cfg.Responder = agent, kind, answers, e.responder
				})
				_, err := is.Issue(t.Context(), ec(names(t, at+"."+kind+".example.com")), nil)
				var failed *issuer.Error
				if !errors.As(err, &failed) || failed.Kind != issuer.Permanent || !strings.Contains(err.Error(), "no such host, says the CA") {
					t.Errorf("%v, want the CA's reason", err)
				}
			})
		}
	}
}

// B3: the HTTP status decides first, and a page that is no problem document is
// not an answer from the CA.
func TestKindsOfRefusals(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, c := range map[string]struct {
		trouble trouble
		kind    issuer.Kind
	}{
		"500-malformed":    {says(500, "malformed"), issuer.Temporary},
		"503-unauthorized": {says(503, "unauthorized"), issuer.Temporary},
		"403-page":         {says(403, ""), issuer.Temporary},
		"401-page":         {says(401, ""), issuer.Temporary},
		"403-unauthorized": {says(403, "unauthorized"), issuer.Permanent},
		"400-rejected":     {says(400, "rejectedIdentifier"), issuer.Permanent},
		"429-page":         {says(429, ""), issuer.RateLimited},
		"429-malformed":    {says(429, "malformed"), issuer.RateLimited},
		"lying": {func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(503)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:malformed","status":400,"detail":"x"}`)
			return true
		}, issuer.Temporary},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, times(1000, pebbletest.NewOrder, c.trouble))
			is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = name })
			_, err := is.Issue(t.Context(), ec(names(t, "kinds.example.com")), nil)
			var failed *issuer.Error
			if !errors.As(err, &failed) || failed.Kind != c.kind {
				t.Errorf("%v, want %s", err, c.kind)
			}
		})
	}
}

// B4: URLs may be relative everywhere (RFC 3986), the directory may have moved,
// and chains come with a byte order mark, with CRLF, or in one line.
func TestSloppyCA(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap, AlternateRoots: 1}, nil)
	base := strings.TrimSuffix(e.ca.DirectoryURL, "/dir")
	relative := changed(func(h http.Header, body []byte) []byte {
		for _, values := range h {
			for i := range values {
				values[i] = strings.ReplaceAll(values[i], base+"/", "/")
			}
		}
		return bytes.ReplaceAll(body, []byte(base+"/"), []byte("/"))
	})
	chain := func(change func([]byte) []byte) trouble {
		return times(100, pebbletest.Certificate, changed(func(_ http.Header, body []byte) []byte { return change(body) }))
	}
	replace := func(old, new string) func([]byte) []byte {
		return func(body []byte) []byte { return bytes.ReplaceAll(body, []byte(old), []byte(new)) }
	}
	for name, trouble := range map[string]trouble{
		"relative": relative,
		"moved": once(pebbletest.Directory, func(w http.ResponseWriter, r *http.Request, _ http.Handler) bool {
			http.Redirect(w, r, "dir?moved", http.StatusMovedPermanently)
			return true
		}),
		"bom":    chain(func(body []byte) []byte { return append([]byte("\xef\xbb\xbf"), body...) }),
		"crlf":   chain(replace("\n", "\r\n")),
		"joined": chain(replace("-----END CERTIFICATE-----\n", "-----END CERTIFICATE-----")),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, trouble)
			is := e.another(t, func(cfg *issuer.Config) {
				cfg.UserAgent, cfg.PreferredChain, cfg.Accounts = name, e.ca.Issuers[1], &memoryAccounts{}
			})
			b, err := is.Issue(t.Context(), ec(names(t, name+".sloppy.example.com")), nil)
			if err != nil {
				t.Fatal(err)
			}
			if len(b.Chain) == 0 || b.Chain[len(b.Chain)-1].Issuer.CommonName != e.ca.Issuers[1] {
				t.Errorf("chain of %d certificates is not the preferred one", len(b.Chain))
			}
			if leaf, err := is.Certificate(t.Context(), b.URL); err != nil || leaf.SerialNumber.Cmp(b.Leaf.SerialNumber) != 0 {
				t.Errorf("read again: %v", err)
			}
		})
	}
}

// B4: a person must open a page: its URL is in the error, wherever the CA put it.
func TestUserActionRequired(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	for name, trouble := range map[string]trouble{
		"instance": func(w http.ResponseWriter, _ *http.Request, _ http.Handler) bool {
			w.WriteHeader(403)
			fmt.Fprint(w, `{"type":"urn:ietf:params:acme:error:userActionRequired","detail":"Terms changed.","instance":"https://ca.example/agree?x"}`)
			return true
		},
		"link": func(w http.ResponseWriter, r *http.Request, next http.Handler) bool {
			w.Header().Set("Link", `<https://ca.example/agree?x>;rel="terms-of-service"`)
			return says(403, "userActionRequired")(w, r, next)
		},
	} {
		ts.set(name, times(100, pebbletest.NewOrder, trouble))
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = name })
		_, err := is.Issue(t.Context(), ec(names(t, "action.example.com")), nil)
		var failed *issuer.Error
		if !errors.As(err, &failed) || failed.Kind != issuer.Permanent || !strings.Contains(err.Error(), "open https://ca.example/agree?x") {
			t.Errorf("%s: %v, want the URL", name, err)
		}
	}
}

// B4: a changed contact reaches the CA, once; a CA that refuses it is no reason
// not to issue.
func TestChangedEmail(t *testing.T) {
	t.Parallel()
	var ts troubles
	var contact atomic.Value
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, func(cfg *issuer.Config) { cfg.Email = "old@example.com" })
	issue := func(is *issuer.Issuer) {
		t.Helper()
		if _, err := is.Issue(t.Context(), ec(names(t, "email.example.com")), nil); err != nil {
			t.Fatal(err)
		}
	}
	issue(e.issuer)
	ts.set("refused", times(100, pebbletest.Account, says(400, "invalidContact")))
	issue(e.another(t, func(cfg *issuer.Config) { cfg.UserAgent, cfg.Email = "refused", "bad@example.com" }))
	if e.accounts.email != "old@example.com" {
		t.Errorf("contact %q is stored, which the CA refused", e.accounts.email)
	}
	ts.set("new", times(100, pebbletest.Account, fields(func(d map[string]any) { contact.Store(fmt.Sprint(d["contact"])) })))
	for range 2 {
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent, cfg.Email = "new", "new@example.com" })
		e.ca.Requests().Reset()
		issue(is)
		issue(is)
	}
	if got := contact.Load(); got != "[mailto:new@example.com]" || e.accounts.email != "new@example.com" {
		t.Errorf("the CA has %v, the store %q", got, e.accounts.email)
	}
	if n := e.ca.Requests().Count(pebbletest.Account); n != 0 {
		t.Errorf("%d more updates of the same contact", n)
	}
}

// B4: HMAC keys of external account bindings in any variant of base64; short or
// broken ones are refused before the proxy starts, and not repeated.
func TestBindingKeys(t *testing.T) {
	t.Parallel()
	const key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4-nMEtx3MUAsUDkMTQ12_"
	e := start(t, pebbletest.Options{EAB: map[string]string{"kid-1": key, "kid-2": key[:43]}}, func(cfg *issuer.Config) {
		cfg.EAB = &issuer.EAB{Kid: "kid-1", HMACKey: key}
	})
	standard := strings.NewReplacer("-", "+", "_", "/").Replace(key)
	for text, kid := range map[string]string{
		key: "kid-1", standard: "kid-1", standard[:40] + "\n" + standard[40:] + "\n": "kid-1",
		key[:43]: "kid-2", key[:43] + "=": "kid-2",
	} {
		is := e.another(t, func(cfg *issuer.Config) {
			cfg.Accounts, cfg.EAB = &memoryAccounts{}, &issuer.EAB{Kid: kid, HMACKey: text}
		})
		if _, err := is.Issue(t.Context(), ec(names(t, "eab.example.com")), nil); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, eab := range []issuer.EAB{
		{Kid: "kid-1", HMACKey: "secret!not base64"}, {Kid: "kid-1", HMACKey: "c2hvcnQ="},
		{Kid: "kid-1"}, {Kid: " ", HMACKey: key}, {Kid: "kid-1", HMACKey: key[:41]},
	} {
		_, err := issuer.New(issuer.Config{
			DirectoryURL: e.ca.DirectoryURL, Accounts: &memoryAccounts{}, Responder: newResponder(), EAB: &eab,
		})
		if err == nil || !strings.HasPrefix(err.Error(), "eab-") || strings.Contains(err.Error(), "secret") {
			t.Errorf("%+v: %v", eab, err)
		}
	}
}

// A6: names, tokens and URLs that were not asked for end the order before a hook
// hears of them.
func TestCAChoosesNames(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	identifier := func(typ, value string) func(map[string]any) {
		return func(d map[string]any) { d["identifier"] = map[string]any{"type": typ, "value": value} }
	}
	challenge := func(field, value string) func(map[string]any) {
		return func(d map[string]any) {
			for _, c := range d["challenges"].([]any) {
				c.(map[string]any)[field] = value
			}
		}
	}
	for name, change := range map[string]func(map[string]any){
		"path":      identifier("dns", "../$(x)\n"),
		"other":     identifier("dns", "evil.example"),
		"type":      identifier("ip", "ordered.example.com"),
		"empty":     identifier("dns", ""),
		"wildcard":  func(d map[string]any) { d["wildcard"] = true },
		"token":     challenge("token", "../../etc/passwd"),
		"newline":   challenge("token", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nX=1"),
		"long":      challenge("token", strings.Repeat("a", 300)),
		"plain":     challenge("url", "http://127.0.0.1/chalZ/1"),
		"user":      challenge("url", "https://a:b@127.0.0.1/chalZ/1"),
		"no-url":    challenge("url", ""),
		"long-url":  challenge("url", "https://127.0.0.1/"+strings.Repeat("a", 3000)),
		"file":      challenge("url", "file:///etc/passwd"),
		"no-status": func(d map[string]any) { d["status"] = "$(x)" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, times(1000, pebbletest.Authorization, fields(change)))
			is := e.another(t, func(cfg *issuer.Config) {
				cfg.UserAgent, cfg.HTTPHook = name, "echo called >> "+t.TempDir()+"/hook; exit 1"
			})
			_, err := is.Issue(t.Context(), ec(names(t, "ordered.example.com")), nil)
			if err == nil || strings.Contains(err.Error(), "http-01-hook") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want an error before the hook", err)
			}
		})
	}
	t.Run("authorizations", func(t *testing.T) {
		t.Parallel()
		ts.set("many", times(1000, pebbletest.NewOrder, fields(func(d map[string]any) {
			first := d["authorizations"].([]any)[0]
			for range 1000 {
				d["authorizations"] = append(d["authorizations"].([]any), first)
			}
		})))
		is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = "many" })
		if _, err := is.Issue(t.Context(), ec(names(t, "many.example.com")), nil); err == nil || !strings.Contains(err.Error(), "authorizations for 1 names") {
			t.Errorf("%v", err)
		}
	})
}

// The CA's own spelling of a name, and a wildcard without its mark, are what
// was ordered all the same (A6).
func TestOtherSpelling(t *testing.T) {
	t.Parallel()
	var ts troubles
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	ts.set("upper", times(100, pebbletest.Authorization, fields(func(d map[string]any) {
		d["identifier"] = map[string]any{"type": "dns", "value": "SPELLING.example.com"}
	})))
	is := e.another(t, func(cfg *issuer.Config) { cfg.UserAgent = "upper" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := is.Issue(ctx, ec(names(t, "spelling.example.com")), nil); err != nil {
		t.Error(err)
	}
}
