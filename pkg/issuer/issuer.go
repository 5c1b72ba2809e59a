package issuer

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/semaphore"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// CAConfig describes a CA, the account there, and the challenges to use.
type CAConfig struct {
	// Name is the CA's name in a cert.Request. If empty, it is DirectoryURL.
	Name         string
	DirectoryURL string // https only
	Accounts     Accounts

	// Solvers prove control over names, by type of challenge (acme.HTTP01 …). They
	// are shared between issuers, and the caller closes them after the issuer.
	Solvers map[string]challenge.Solver
	// Challenge is the preferred type. If empty, it is acme.HTTP01. challenge.Types
	// returns the other types for names that cannot use it.
	Challenge string
	// Shared is set if other instances may continue the orders of this one.
	Shared bool

	PreferredChain string // common name of the issuer of the topmost certificate; "" for the CA's default chain

	Email     string // contact of the account; may be empty
	AcceptTOS bool   // the administrator has read and accepted the CA's terms
	// AcceptTerms reports whether the administrator accepts the terms at a URL. If set, it
	// replaces AcceptTOS.
	AcceptTerms func(url string) bool
	EAB         *EAB // nil if the CA does not ask for one

	// Proxy selects the HTTP proxy for a request to the CA; if nil, none is used.
	Proxy     func(*http.Request) (*url.URL, error)
	RootCAs   *x509.CertPool    // roots for the CA's API; nil for the system's
	Transport http.RoundTripper // replaces the one with Proxy and RootCAs, for tests that count requests
	UserAgent string            // such as "acmeproxy/1.0"
	Timeout   time.Duration     // for one issuance without queueing; 5 minutes if 0
	Logger    *slog.Logger      // logs nothing if nil; never gets a name
	Now       func() time.Time  // time.Now if nil
}

// CA obtains certificates from one directory with one account. It is safe for
// concurrent use.
type CA struct {
	cfg     CAConfig
	wire    *wire
	methods map[string]*method // by type of challenge
	turns   *challenge.Turns   // for exclusive solvers
	kept    *challenge.Kept    // answers of orders that will be continued
	signing pace               // time from finalize to the certificate

	registering *semaphore.Weighted // held while current is read or written
	current     account
	contactAt   time.Time // when the contact may be sent again; guarded like current
}

// NewCA checks the configuration. It does not connect to the CA.
func NewCA(cfg CAConfig) (*CA, error) {
	if cfg.DirectoryURL == "" || cfg.Accounts == nil {
		return nil, errors.New("issuer: DirectoryURL and Accounts are required")
	}
	if cfg.EAB != nil {
		eab, err := cfg.EAB.canonical()
		if err != nil {
			return nil, err
		}
		cfg.EAB = eab
	}
	if cfg.Name == "" {
		cfg.Name = cfg.DirectoryURL
	}
	if cfg.Challenge == "" {
		cfg.Challenge = acme.HTTP01
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 5 * time.Minute
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Transport == nil {
		cfg.Transport = transport(cfg)
	}
	methods, err := newMethods(cfg)
	if err != nil {
		return nil, err
	}
	w := newWire(cfg.Transport, cfg.DirectoryURL, cfg.Now)
	w.private = cfg.RootCAs != nil
	return &CA{
		cfg:         cfg,
		methods:     methods,
		wire:        w,
		turns:       &challenge.Turns{},
		kept:        &challenge.Kept{},
		registering: semaphore.NewWeighted(1),
	}, nil
}

// pingAfter is the time without data after which a connection is pinged, and the
// timeout of that ping. Without pings, a cut link or a firewall that dropped the
// connection goes undetected for 15 minutes. All requests would use that dead
// connection.
const pingAfter = 10 * time.Second

// transport returns the transport for a CA's API. It uses HTTP/2 and has idle
// connections for all issuances in flight.
func transport(cfg CAConfig) *http.Transport {
	return &http.Transport{
		Proxy:                 cfg.Proxy,
		TLSClientConfig:       &tls.Config{RootCAs: cfg.RootCAs, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,

		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Issue obtains one certificate. It generates the key if the request has no CSR,
// orders, answers the challenges, finalizes and downloads. If emit is not nil, it is
// called at each step, from several goroutines but never concurrently. The error is
// always an *acme.Error. Pool.Issue limits the issuances in flight.
func (ca *CA) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	f := &flow{ca: ca, req: req, emit: serialize(emit)}
	if err := f.check(); err != nil {
		return nil, err
	}
	unshared := func(_ context.Context, _ string, t cert.KeyType, _ func()) (crypto.Signer, error) {
		return cert.GenerateKey(t)
	}
	if err := f.generateKey(ctx, unshared); err != nil {
		return nil, err
	}
	return ca.issue(ctx, f)
}

// issue obtains the certificate of a flow that has its CSR.
func (ca *CA) issue(ctx context.Context, f *flow) (*cert.Bundle, error) {
	ctx, cancel := context.WithTimeout(ctx, ca.cfg.Timeout)
	defer cancel()
	if f.req.Order.CA != "" && f.req.Order.CA != ca.cfg.DirectoryURL {
		f.req.Order = cert.Order{} // another CA does not know it
	}
	var lost account
	for attempt := 1; ; attempt++ {
		acc, err := ca.account(ctx)
		if err != nil {
			return nil, err
		}
		if lost.url != "" && lost.url != acc.url {
			f.req.Order = cert.Order{} // it belonged to the lost account
		}
		bundle, err := f.run(ctx, acc)
		if attempt == 1 && isProblem(err, acme.AccountDoesNotExist) {
			if err := ca.forget(ctx, acc); err != nil {
				return nil, classify("register the account again", err, time.Time{})
			}
			lost = acc
			continue
		}
		var e *acme.Error
		if errors.As(err, &e) {
			e.Ordered = f.req.Order.URL != ""
		}
		return bundle, err
	}
}

// Close closes idle connections, and removes the answers that were left for orders to
// be continued.
func (ca *CA) Close() error {
	ca.closeIdle()
	ca.kept.Close(ca.cfg.Shared)
	return nil
}

func (ca *CA) closeIdle() {
	if t, ok := ca.cfg.Transport.(interface{ CloseIdleConnections() }); ok {
		t.CloseIdleConnections()
	}
}

// newCore returns lego's API for one session. It costs no request once the
// directory is known.
func (ca *CA) newCore(s *session, acc account) (*api.Core, error) {
	var key crypto.PrivateKey = acc.key
	core, err := api.New(&http.Client{Transport: s}, ca.cfg.UserAgent, ca.cfg.DirectoryURL, acc.url, key)
	if err != nil {
		return nil, classify("read the CA's directory", err, time.Time{})
	}
	return core, nil
}

// CAAIdentities returns the names by which CAA records allow this CA (RFC 8555,
// section 7.1.1), or nil if its directory lists none. It registers no account, and
// costs no request once the directory is known.
func (ca *CA) CAAIdentities(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	core, err := ca.newCore(ca.wire.session(ctx), account{})
	if err != nil {
		return nil, err
	}
	return core.GetDirectory().Meta.CaaIdentities, nil
}

// serialize returns a function that calls emit, and may be used concurrently.
func serialize(emit func(acme.Event)) func(acme.Event) {
	if emit == nil {
		return func(acme.Event) {}
	}
	var mu sync.Mutex
	return func(e acme.Event) {
		mu.Lock()
		defer mu.Unlock()
		emit(e)
	}
}
