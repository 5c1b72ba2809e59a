package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/challenge/dns01"
	"github.com/acmeproxy/acmeproxy/pkg/checks"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/modes/offload"
	"github.com/acmeproxy/acmeproxy/pkg/modes/relay"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Config holds the configuration and the dependencies of a proxy.
type Config struct {
	config.Serve
	Version string
	RootCAs *x509.CertPool // roots to trust for the CA's API; if nil, the system's, CACertificates and LEGO_CA_CERTIFICATES
	Logger  *slog.Logger   // if nil, nothing is logged
	// Getenv returns variables of the process's environment, for DNS providers, HTTP
	// proxies and LEGO_CA_CERTIFICATES. If nil, it has none.
	Getenv func(string) string
	// Environ holds the variables that hooks inherit, as NAME=value. If nil, a hook
	// has only those that describe its event.
	Environ []string
	Now     func() time.Time // time for certificates and leases, not for timeouts; if nil, time.Now
	// Known, if not nil, is called when the API's number of connections of
	// authenticated clients has changed, at most once a second.
	Known func(connections int)
	// Reread returns the settings for Reload. It reads files again, but not the
	// environment. If nil, Reload fails.
	Reread func() (*config.Serve, error)
	// Hangup receives a value for each Reload that Run starts; nil for none.
	Hangup <-chan os.Signal
	// LogLevel is Logger's level, which Reload sets; nil if it cannot change.
	LogLevel *slog.LevelVar
	Limits   Limits
}

// Proxy runs the DMZ process. It owns the ports, the store, the identity and the
// limits. Its generation, which Replace replaces, owns what settings can change.
type Proxy struct {
	cfg       Config
	log       *slog.Logger
	name      string         // of this instance
	closers   []func() error // in the order of opening
	store     *store.Store
	identity  *age.X25519Identity
	responder *responder.Responder
	port80    atomic.Pointer[http.Handler] // the responder with its fallback
	peers     *peers.Peers                 // nil with SQLite
	audit     *audit.Log
	tls       *apiTLS
	auth      *auth.Authenticator
	registrar *enroll.Registrar
	checks    *checks.Checks
	offload   *offload.Offload

	sign          *signing // nil without sign-config
	bindingSecret []byte   // of external account bindings
	relay         *relay.Relay
	acme          http.Handler
	door          atomic.Pointer[acmeDoor] // nil without a public URL
	doorChanged   chan struct{}            // buffered

	own      ownName
	health   *health
	newQuota bool // the database was created with a default quota

	// Generations share these, so that a change of the settings loses no answer and no
	// notification.
	waiters agent.Waiters
	issuing *issuer.Shared
	shares  *work.Shares
	places  challenge.Places
	dns     dns01.Shared

	stopping context.Context //nolint:containedctx // of the process, not of a request
	stop     func()          // cancels stopping

	background sync.WaitGroup // of TryNow, which adds to it under mu

	replacing sync.Mutex   // held while a generation is built and swapped in
	mu        sync.RWMutex // guards current and live
	current   *generation
	live      map[*generation]bool // generations that are not closed, including current

	// Renewals renews due certificates, Deployments writes files and runs hooks. Run
	// runs them; tests may call Tick.
	Renewals    *work.Loop
	Deployments *work.Loop

	http, https, admin net.Listener
}

// New opens the store, the ports and the first generation. On an error nothing stays
// open.
func New(ctx context.Context, cfg Config) (_ *Proxy, err error) {
	if err := errors.Join(cfg.Validate(), envproxy.Check(cfg.Getenv, envproxy.HTTPS)); err != nil {
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
	p := &Proxy{
		cfg: cfg, name: instanceName(), log: cfg.Logger, responder: responder.New(), live: map[*generation]bool{},
		issuing: issuer.NewShared(0), shares: renewal.NewShares(),
	}
	p.stopping, p.stop = context.WithCancel(context.WithoutCancel(ctx))
	if err := p.setFallback(cfg.Serve); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, step := range []func(context.Context) error{p.openStore, p.openOffload, p.openPeers, p.openBindingSecret, p.openGeneration, p.listen, p.openACME, p.openAPI, p.openSign} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// setFallback sets the handler of port 80: challenges, and the fallback of settings for
// all other requests. Requests in progress finish with the earlier one.
func (p *Proxy) setFallback(settings config.Serve) error {
	var challenges http.Handler = p.responder
	backend, err := settings.Backend()
	if err != nil {
		return fmt.Errorf("http-fallback: %w", err)
	}
	handler := challenges // it answers 404
	switch {
	case backend != nil:
		handler = fallback.Backend(challenges, fallback.BackendConfig{
			Target: backend, InFlight: p.cfg.Limits.exchanges(),
			Grace: p.cfg.Limits.FallbackGrace, Longest: p.cfg.Limits.FallbackLongest, Logger: p.log,
		})
	case settings.HTTPFallback == config.FallbackRedirect:
		handler = fallback.Redirect(challenges)
	}
	p.port80.Store(&handler)
	return nil
}

// servePort80 serves the requests of port 80.
func (p *Proxy) servePort80(w http.ResponseWriter, r *http.Request) {
	(*p.port80.Load()).ServeHTTP(w, r)
}

// Close closes everything that is open, the newest first. Run calls it.
func (p *Proxy) Close() error {
	p.mu.Lock()
	p.stop() // no further TryNow begins
	p.mu.Unlock()
	p.background.Wait()
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
