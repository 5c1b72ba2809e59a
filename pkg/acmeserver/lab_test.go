package acmeserver_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// lab is a storage with any number of Servers, in synctest's time. Its clients call the
// Servers without a network.
type lab struct {
	*testing.T
	cfg   acmeserver.Config
	ca    *scriptedCA
	sites []*site
}

// site is one Server of a lab.
type site struct {
	*acmeserver.Server
	storage *mortal
	stop    context.CancelFunc
	done    chan struct{}
}

// inLab runs a test in a lab. By default, identifiers are authorized at once.
func inLab(t *testing.T, change func(*acmeserver.Config), test func(l *lab)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := &lab{T: t, ca: newScriptedCA(t)}
		l.cfg = acmeserver.Config{
			URL: "https://ca.example.com/acme", Storage: acmeserver.NewMemory(), Issuer: l.ca, Policy: acmeserver.Trusting{},
		}
		if change != nil {
			change(&l.cfg)
		}
		defer l.end()
		test(l)
	})
}

func (l *lab) end() {
	for _, s := range l.sites {
		s.stop()
	}
	for _, s := range l.sites {
		<-s.done
	}
}

// start starts a Server of the lab.
func (l *lab) start() *site {
	l.Helper()
	cfg := l.cfg
	s := &site{storage: &mortal{Storage: cfg.Storage}, done: make(chan struct{})}
	cfg.Storage = s.storage
	var err error
	if s.Server, err = acmeserver.New(cfg); err != nil {
		l.Fatal(err)
	}
	var ctx context.Context
	ctx, s.stop = context.WithCancel(context.Background())
	go func() { defer close(s.done); s.Run(ctx) }()
	l.sites = append(l.sites, s)
	return s
}

// kill lets the site change nothing any more, as kill -9 does.
func (s *site) kill() { s.storage.dead.Store(true) }

// wait advances the time.
func (l *lab) wait(d time.Duration) {
	synctest.Wait()
	<-time.After(d)
	synctest.Wait()
}

// mortal is a Storage that fails after its process was killed.
type mortal struct {
	acmeserver.Storage
	dead  atomic.Bool
	stale atomic.Int32             // updates of orders that fail with ErrStale
	hook  func(o acmeserver.Order) // called before an update of an order
}

var errDead = errors.New("the process was killed")

func (m *mortal) UpdateOrder(ctx context.Context, o acmeserver.Order) error {
	if m.dead.Load() {
		return errDead
	}
	if m.stale.Add(-1) >= 0 {
		return acmeserver.ErrStale
	}
	if m.hook != nil {
		m.hook(o)
	}
	return m.Storage.UpdateOrder(ctx, o)
}

func (m *mortal) CompleteOrder(ctx context.Context, o acmeserver.Order, c acmeserver.Certificate) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Storage.CompleteOrder(ctx, o, c)
}

func (m *mortal) ExtendOrder(ctx context.Context, id, owner string, until time.Time) error {
	if m.dead.Load() {
		return errDead
	}
	return m.Storage.ExtendOrder(ctx, id, owner, until)
}

func (m *mortal) ClaimOrders(ctx context.Context, owner string, now, until time.Time, limit int) ([]acmeserver.Order, error) {
	if m.dead.Load() {
		return nil, errDead
	}
	return m.Storage.ClaimOrders(ctx, owner, now, until, limit)
}

// caller is an ACME client with an account.
type caller struct {
	l   *lab
	at  *site // that it calls
	key crypto.Signer
	kid string
}

// labReply is the answer to a request.
type labReply struct {
	*httptest.ResponseRecorder
	l *lab
}

// send sends a request signed by the account. A nil payload is POST-as-GET.
func (c *caller) send(url string, payload any) *labReply {
	c.l.Helper()
	return c.sendBy(c.l.Context(), rawacme.Fields{"kid": c.kid}, c.key, url, payload)
}

// sendBy sends a request signed by a key.
func (c *caller) sendBy(ctx context.Context, header rawacme.Fields, key crypto.Signer, url string, payload any) *labReply {
	c.l.Helper()
	get := httptest.NewRecorder()
	c.at.ServeHTTP(get, httptest.NewRequestWithContext(ctx, http.MethodGet, c.l.cfg.URL+"/new-nonce", http.NoBody))
	header["alg"], header["url"] = rawacme.Algorithm(key), url
	header["nonce"] = get.Header().Get("Replay-Nonce")
	body := ""
	if payload != nil {
		body = string(rawacme.JSON(payload))
	}
	raw := rawacme.JSON(rawacme.Sign(header["alg"].(string), key, header, body))
	req := httptest.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(raw))
	req.Header.Set("Content-Type", "application/jose+json")
	req.RemoteAddr = "192.0.2.7:4711"
	rec := httptest.NewRecorder()
	c.at.ServeHTTP(rec, req)
	return &labReply{rec, c.l}
}

// account creates an account at a site.
func (l *lab) account(at *site) *caller {
	l.Helper()
	c := &caller{l: l, at: at, key: rawacme.NewKey()}
	r := c.sendBy(l.Context(), rawacme.Fields{"jwk": rawacme.JWK(c.key.Public())}, c.key, l.cfg.URL+"/new-account",
		rawacme.Fields{"termsOfServiceAgreed": true})
	c.kid = r.want(http.StatusCreated).Header().Get("Location")
	return c
}

// want ends the test unless the reply has that status.
func (r *labReply) want(status int) *labReply {
	r.l.Helper()
	if r.Code != status {
		r.l.Fatalf("status %d, want %d: %s", r.Code, status, r.Body)
	}
	return r
}

// refused ends the test unless the reply is a problem of that type and status.
func (r *labReply) refused(kind string, status int) acme.Problem {
	r.l.Helper()
	var p acme.Problem
	r.want(status).into(&p)
	if p.Type != kind {
		r.l.Fatalf("problem %s, want %s", r.Body, kind)
	}
	return p
}

func (r *labReply) into(v any) {
	r.l.Helper()
	if err := json.Unmarshal(r.Body.Bytes(), v); err != nil {
		r.l.Fatalf("%v: %s", err, r.Body)
	}
}

// orderDoc is an order with its URL.
type orderDoc struct {
	URL            string            `json:"-"`
	Status         acmeserver.Status `json:"status"`
	Expires        time.Time         `json:"expires"`
	Identifiers    []acme.Identifier `json:"identifiers"`
	Profile        string            `json:"profile"`
	NotBefore      time.Time         `json:"notBefore"`
	NotAfter       time.Time         `json:"notAfter"`
	Replaces       string            `json:"replaces"`
	Error          *acme.Problem     `json:"error"`
	Authorizations []string          `json:"authorizations"`
	Finalize       string            `json:"finalize"`
	Certificate    string            `json:"certificate"`
}

type challengeDoc struct {
	Type, URL, Token string
	Status           acmeserver.Status
	Validated        time.Time
	Error            *acme.Problem
}

type authorizationDoc struct {
	Identifier acme.Identifier
	Status     acmeserver.Status
	Expires    time.Time
	Wildcard   bool
	Challenges []challengeDoc
}

// order checks what all orders have, and returns the order of a reply.
func (r *labReply) order() orderDoc {
	r.l.Helper()
	var o orderDoc
	r.into(&o)
	o.URL = r.Header().Get("Location")
	if o.URL == "" || o.Expires.IsZero() || len(o.Identifiers) == 0 || len(o.Authorizations) == 0 || o.Finalize == "" {
		r.l.Fatalf("Location %q, order %s: want all fields", o.URL, r.Body)
	}
	if wait := r.Header().Get("Retry-After"); (o.Status == acmeserver.StatusProcessing) != (wait >= "1" && wait <= "5") {
		r.l.Fatalf("Retry-After %q with status %s", wait, o.Status)
	}
	return o
}

func dns(names ...string) (ids []acme.Identifier) {
	for _, name := range names {
		ids = append(ids, acme.Identifier{Type: acme.TypeDNS, Value: name})
	}
	return ids
}

// newOrder creates an order.
func (c *caller) newOrder(names ...string) orderDoc {
	c.l.Helper()
	return c.send(c.l.cfg.URL+"/new-order", rawacme.Fields{"identifiers": dns(names...)}).want(http.StatusCreated).order()
}

func (c *caller) read(o orderDoc) orderDoc {
	c.l.Helper()
	return c.send(o.URL, nil).want(http.StatusOK).order()
}

func (c *caller) authorization(url string) (a authorizationDoc) {
	c.l.Helper()
	c.send(url, nil).want(http.StatusOK).into(&a)
	return a
}

// finalize sends a CSR with the names of the order.
func (c *caller) finalize(o orderDoc, key crypto.Signer) *labReply {
	c.l.Helper()
	var names []string
	for _, id := range o.Identifiers {
		names = append(names, id.Value)
	}
	return c.send(o.Finalize, rawacme.Fields{"csr": csrFor(c.l, key, names...)})
}

func csrFor(t testing.TB, key crypto.Signer, names ...string) string {
	t.Helper()
	der, err := cert.NewCSR(key, names)
	if err != nil {
		t.Fatal(err)
	}
	return rawacme.B64(der)
}

// download returns the leaf of a certificate.
func (c *caller) download(o orderDoc) *x509.Certificate {
	c.l.Helper()
	r := c.send(o.Certificate, nil).want(http.StatusOK)
	if kind := r.Header().Get("Content-Type"); kind != "application/pem-certificate-chain" {
		c.l.Fatalf("Content-Type %q", kind)
	}
	bundle, err := cert.ParseBundle(r.Body.Bytes())
	if err != nil {
		c.l.Fatal(err)
	}
	if !bytes.Equal(bundle.FullchainPEM(), r.Body.Bytes()) {
		c.l.Fatalf("not strict PEM: %q", r.Body)
	}
	return bundle.Leaf
}

// is ends the test unless the order has that status.
func (o orderDoc) is(t testing.TB, status acmeserver.Status) orderDoc {
	t.Helper()
	if o.Status != status {
		t.Fatalf("order %+v, want %s", o, status)
	}
	return o
}

func pkixExtension(oid []int, value []byte) pkix.Extension {
	return pkix.Extension{Id: oid, Value: value}
}
