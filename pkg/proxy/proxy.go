package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Config is what a proxy is made of.
type Config struct {
	config.Serve
	Version string
	RootCAs *x509.CertPool // trust for the CA's API; nil: the system's and LEGO_CA_CERTIFICATES
	Logger  *slog.Logger   // nil: none
	// Getenv returns variables of the process's environment, for DNS providers, HTTP
	// proxies and LEGO_CA_CERTIFICATES. If nil, it has none.
	Getenv func(string) string
	Now    func() time.Time // nil: time.Now; for certificates and leases, not for timeouts
	// Known, if not nil, is told how many connections of authenticated clients
	// the API has, when that changed, at most once a second.
	Known  func(connections int)
	Limits Limits
}

// Proxy is the DMZ process: it owns the ports, the store, the identity and the
// limits. What settings change belongs to its generation, which Replace replaces.
type Proxy struct {
	cfg       Config
	log       *slog.Logger
	name      string         // of this instance
	closers   []func() error // in the order in which things were opened
	store     *store.Store
	identity  *age.X25519Identity
	responder *responder.Responder
	port80    http.Handler // the responder, and what it does not answer
	peers     *peers.Peers // nil with SQLite
	audit     *audit.Log
	tls       *apiTLS
	auth      *auth.Authenticator
	registrar *enroll.Registrar
	health    *health

	stopping context.Context //nolint:containedctx // the process's, not a request's
	stop     func()          // ends stopping

	replacing sync.Mutex   // held while a generation is built and swapped in
	mu        sync.RWMutex // guards what follows
	current   *generation
	live      map[*generation]bool // those that are not closed, current included

	// Renewals works on managed certificates that are due, Deployments on files
	// and hooks. Run drives them; tests may call Tick.
	Renewals    *work.Loop
	Deployments *work.Loop

	http, https, admin net.Listener
}

// New opens everything that the proxy needs. On an error nothing stays open.
func New(ctx context.Context, cfg Config) (_ *Proxy, err error) {
	if err := errors.Join(cfg.Validate(), envproxy.Check(envproxy.HTTPS)); err != nil {
		return nil, err
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	cfg.Limits = cfg.Limits.withDefaults()
	p := &Proxy{cfg: cfg, name: instanceName(), log: cfg.Logger, responder: responder.New(), live: map[*generation]bool{}}
	p.stopping, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	if p.port80, err = p.withFallback(p.responder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, step := range []func(context.Context) error{p.openStore, p.openPeers, p.openGeneration, p.listen, p.openAPI} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// withFallback is port 80: challenges, and what --http-fallback says.
func (p *Proxy) withFallback(challenges http.Handler) (http.Handler, error) {
	backend, err := p.cfg.Backend()
	switch {
	case err != nil:
		return nil, fmt.Errorf("http-fallback: %w", err)
	case backend != nil:
		return fallback.Backend(challenges, fallback.BackendConfig{
			Target: backend, InFlight: p.cfg.Limits.exchanges(),
			Grace: p.cfg.Limits.FallbackGrace, Longest: p.cfg.Limits.FallbackLongest, Logger: p.log,
		}), nil
	case p.cfg.HTTPFallback == config.FallbackRedirect:
		return fallback.Redirect(challenges), nil
	}
	return challenges, nil // which answers 404
}

// Close closes what is open, the newest first. Run does it, too.
func (p *Proxy) Close() error {
	p.stop()
	var errs []error
	for _, c := range slices.Backward(p.closers) {
		if err := c(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	p.closers = nil
	return errors.Join(errs...)
}

func (p *Proxy) onClose(f func() error) { p.closers = append(p.closers, f) }
