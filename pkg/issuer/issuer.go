package issuer

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/acme/api"
	"golang.org/x/sync/semaphore"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// CAConfig says which CA, as whom, and how challenges are answered.
type CAConfig struct {
	// Name is what a cert.Request may call the CA; empty: DirectoryURL.
	Name         string
	DirectoryURL string // https only
	Accounts     Accounts

	// Solvers prove control over names, by type of challenge (acme.HTTP01 …). They
	// are shared between issuers, and the caller closes them after the issuer.
	Solvers map[string]challenge.Solver
	// Challenge is the preferred type; empty: acme.HTTP01. challenge.Types says which
	// names need another one.
	Challenge string
	// Shared says that other instances may continue the orders of this one.
	Shared bool

	PreferredChain string // common name of the issuer of the topmost certificate; "": the CA's default chain

	Email     string // contact of the account; may be empty
	AcceptTOS bool   // the administrator has read and accepted the CA's terms
	EAB       *EAB   // nil if the CA does not ask for one

	RootCAs   *x509.CertPool    // trust for the CA's API; nil: the system's
	Transport http.RoundTripper // in place of the tuned one, which RootCAs is for; tests count requests here
	UserAgent string            // such as "acmeproxy/1.0"
	Timeout   time.Duration     // of one issuance, queueing excluded; 0: 5 minutes
	Logger    *slog.Logger      // nil: none. No name is ever logged here.
	Now       func() time.Time  // nil: time.Now
}

// CA obtains certificates from one directory with one account. It is safe for
// concurrent use.
type CA struct {
	cfg     CAConfig
	wire    *wire
	methods map[string]*method // by type of challenge
	turns   *challenge.Turns   // of exclusive solvers
	kept    *challenge.Kept    // answers of orders that will be continued
	signing pace               // from finalize to the certificate

	registering *semaphore.Weighted // held while current is read or written
	current     account
	contactAt   time.Time // when the contact may be sent again; as current
}

// NewCA checks the configuration; it does not talk to the CA.
func NewCA(cfg CAConfig) (*CA, error) {
	if cfg.DirectoryURL == "" || cfg.Accounts == nil {
		return nil, errors.New("issuer: DirectoryURL and Accounts are needed")
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
		cfg.Transport = Transport(cfg.RootCAs)
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

// pingAfter is how long a connection may be silent while something is awaited,
// and how long its answer to a ping may take. A link that was cut or a firewall
// that forgot the connection shows in no other way for a quarter of an hour,
// and all requests would go to that dead connection.
const pingAfter = 10 * time.Second

// Transport is how we talk to a CA: HTTP/2, enough idle connections for all
// issuances in flight, proxies from the environment.
func Transport(roots *x509.CertPool) *http.Transport {
	return &http.Transport{
		Proxy:                 envproxy.FromEnvironment,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		ForceAttemptHTTP2:     true,
		HTTP2:                 &http.HTTP2Config{SendPingTimeout: pingAfter, PingTimeout: pingAfter},
		MaxIdleConnsPerHost:   64,
		IdleConnTimeout:       time.Minute,
		TLSHandshakeTimeout:   15 * time.Second,
		ResponseHeaderTimeout: time.Minute,

		MaxResponseHeaderBytes: 64 << 10,
	}
}

// Issue obtains one certificate: it generates the key if the request has no CSR,
// orders, answers the challenges, finalizes and downloads. emit, if not nil, is
// called at each step, from several goroutines but never at the same time. The error
// is always an *acme.Error. Pool.Issue bounds how much is done at a time.
func (ca *CA) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	f := &flow{ca: ca, req: req, emit: serial(emit)}
	if err := f.check(); err != nil {
		return nil, err
	}
	unshared := func(_ context.Context, _ string, t cert.KeyType, _ func()) (crypto.Signer, error) {
		return cert.GenerateKey(t)
	}
	if err := f.makeKey(ctx, unshared); err != nil {
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

// Close removes the answers of orders that would be continued.
func (ca *CA) Close() error {
	ca.kept.Close(ca.cfg.Shared)
	return nil
}

// core binds lego's API to one session. It costs no request once the
// directory is known.
func (ca *CA) core(s *session, acc account) (*api.Core, error) {
	var key crypto.PrivateKey = acc.key
	core, err := api.New(&http.Client{Transport: s}, ca.cfg.UserAgent, ca.cfg.DirectoryURL, acc.url, key)
	if err != nil {
		return nil, classify("read the CA's directory", err, time.Time{})
	}
	return core, nil
}

// CAAIdentities are the names by which CAA records allow this CA (RFC 8555,
// section 7.1.1); none if it does not say. It reads the directory, which costs
// no request once it is known, and registers no account.
func (ca *CA) CAAIdentities(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	core, err := ca.core(ca.wire.session(ctx), account{})
	if err != nil {
		return nil, err
	}
	return core.GetDirectory().Meta.CaaIdentities, nil
}

// serial makes emit callable from several goroutines.
func serial(emit func(acme.Event)) func(acme.Event) {
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
