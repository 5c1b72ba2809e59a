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
	"path/filepath"
	"slices"
	"strings"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/fallback"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
	"github.com/acmeproxy/acmeproxy/pkg/hook"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
	"github.com/acmeproxy/acmeproxy/pkg/modes/gateway"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
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

// Proxy is the DMZ process.
type Proxy struct {
	cfg       Config
	log       *slog.Logger
	name      string         // of this instance
	closers   []func() error // in the order in which things were opened
	store     *store.Store
	identity  *age.X25519Identity
	responder *responder.Responder
	port80    http.Handler                // the responder, and what it does not answer
	peers     *peers.Peers                // nil with SQLite
	solvers   map[string]challenge.Solver // by type of challenge
	issuer    *issuer.Issuer
	audit     *audit.Log
	tls       *apiTLS
	client    *client.Client
	agent     *agent.Agent
	gateway   *gateway.Gateway

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
	p := &Proxy{cfg: cfg, name: instanceName(), log: cfg.Logger, responder: responder.New()}
	if p.port80, err = p.withFallback(p.responder); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	for _, step := range []func(context.Context) error{p.openStore, p.openPeers, p.openSolvers, p.openIssuer, p.openModes, p.listen} {
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

func (p *Proxy) openStore(ctx context.Context) error {
	unlock, err := openDataDir(p.cfg.DataDir)
	if err != nil {
		return err
	}
	p.onClose(unlock)
	if risk := localfile.Risk(p.cfg.DataDir); risk != "" {
		p.log.Warn("the data directory is not safe", "risk", risk)
	}
	if p.identity, err = seal.LoadOrCreateIdentity(filepath.Join(p.cfg.DataDir, identityName)); err != nil {
		return err
	}
	where := StoreConfig(p.cfg.Serve)
	where.Now = p.cfg.Now
	where.Wait = storePatience
	where.Waiting = func(err error) { p.log.Warn("waiting for the database", "error", err) }
	where.Migrated = func(m sqldb.Migration) {
		p.log.Info("the database's schema was migrated", "from", m.From, "to", m.To, "copy", m.Copy)
	}
	if p.store, err = store.Open(ctx, where); err != nil {
		return err
	}
	p.onClose(p.store.Close)
	// The lock on the data directory says that nobody else works on a database
	// in it: what a killed predecessor held is free at once. A PostgreSQL database
	// may have other instances; there, a dead one's leases end by themselves.
	if p.cfg.Store == "" {
		if err := p.store.FreeLeases(ctx); err != nil {
			return err
		}
	}
	if err := p.unpark(ctx); err != nil {
		return err
	}
	newDatabase, err := p.store.WantsDefaultQuota(ctx)
	if err != nil {
		return err
	}
	p.audit = audit.New(audit.Config{Store: p.store, Logger: p.log, Now: p.cfg.Now, DefaultQuota: p.cfg.DailyQuota(newDatabase)})
	p.tls, err = newAPITLS(ctx, p.store, p.identity)
	return err
}

// storePatience is how long a proxy that starts waits for a database server,
// which may be starting as well.
const storePatience = time.Minute

// StoreConfig is where a proxy with these settings keeps everything.
func StoreConfig(cfg config.Serve) store.Config {
	if cfg.Store != "" {
		return store.Config{URL: cfg.Store}
	}
	return store.Config{Path: filepath.Join(cfg.DataDir, databaseName)}
}

func (p *Proxy) openIssuer(context.Context) error {
	eab, err := readEAB(p.cfg.EABKid, p.cfg.EABHMACKeyFile)
	if err != nil {
		return err
	}
	roots := p.cfg.RootCAs
	if roots == nil {
		if roots, err = caRoots(p.cfg.Getenv); err != nil {
			return err
		}
	}
	cfg := issuer.Config{
		DirectoryURL:   p.cfg.ACMEDirectoryURL,
		Accounts:       &issuer.StoredAccounts{Store: p.store, Identity: p.identity},
		Solvers:        p.solvers,
		Challenge:      p.cfg.Challenge,
		Shared:         p.peers != nil,
		PreferredChain: p.cfg.PreferredChain,
		Email:          p.cfg.Email,
		AcceptTOS:      p.cfg.AcceptTOS,
		EAB:            eab,
		RootCAs:        roots,
		UserAgent:      "acmeproxy/" + p.cfg.Version,
		Logger:         p.log,
		Now:            p.cfg.Now,
	}
	if p.issuer, err = issuer.New(cfg); err != nil {
		return err
	}
	p.onClose(p.issuer.Close)
	return nil
}

func readEAB(kid, file string) (*issuer.EAB, error) {
	if kid == "" {
		return nil, nil
	}
	key, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", issuer.ErrEAB, err)
	}
	return &issuer.EAB{Kid: kid, HMACKey: strings.TrimSpace(string(key))}, nil
}

func (p *Proxy) openModes(context.Context) error {
	sets, err := p.certificateSets()
	if err != nil {
		return err
	}
	keyType, err := cert.ParseKeyType(p.cfg.KeyType)
	if err != nil {
		return fmt.Errorf("key-type: %w", err)
	}
	p.client, err = client.New(client.Config{
		Store: p.store, Audit: p.audit, Identity: p.identity,
		Sets: sets, KeyType: keyType, Profile: p.cfg.Profile, CheckNames: p.issuer.CheckNames, Dir: p.cfg.CertificatesDir(), Files: p.cfg.Files,
		Hook:  hook.Hook{Command: p.cfg.CertificateObtainedHook, Timeout: hookTimeout},
		Email: p.cfg.Email, Owner: p.name, Installed: p.installed,
		Wake:   func() { p.Deployments.Wake() },
		Logger: p.log, Now: p.cfg.Now,
	})
	if err != nil {
		return err
	}
	p.agent = agent.New(agent.Config{
		Store: p.store, Audit: p.audit, Check: p.issuer.Check, CA: p.issuer, Logger: p.log, Now: p.cfg.Now,
		Limit: p.cfg.MaxClientCertificates,
		Wake:  func() { p.Renewals.Wake(); p.peers.TellDue() },
		Tell:  p.peers.TellNews,
		Every: p.lookEvery,
	})
	ca := reporting{p.issuer, p.issued}
	p.gateway = gateway.New(gateway.Config{Issuer: ca, Audit: p.audit, Logger: p.log})
	queue := renewal.NewQueue(renewal.Config{
		Store: p.store, Issuer: ca, DirectoryURL: p.cfg.ACMEDirectoryURL, Identity: p.identity,
		Modes:   map[clients.Mode]renewal.Mode{clients.ModeClient: p.client, clients.ModeAgent: p.agent},
		Owner:   p.name,
		Settled: p.audit.Settled,
		Logger:  p.log, Now: p.cfg.Now,
	})
	p.Renewals = work.NewLoop(queue, renewal.Workers, p.cfg.Now, p.log)
	p.Deployments = work.NewLoop(client.Deployments{Client: p.client}, 2, p.cfg.Now, p.log)
	return nil
}

// hookTimeout is how long a certificate-obtained hook may run.
const hookTimeout = 10 * time.Minute

// certificateSets are those of --domain, and the API's own.
func (p *Proxy) certificateSets() ([]cert.Names, error) {
	sets, err := p.cfg.CertificateSets()
	if err != nil || p.cfg.Hostname == "" {
		return sets, err
	}
	for _, set := range sets {
		if slices.Contains(set, p.hostname()) {
			return sets, nil
		}
	}
	return append(sets, cert.Names{p.hostname()}), nil
}

// hostname is canonical; Validate has seen to it that it can be.
func (p *Proxy) hostname() string {
	name, err := cert.ParseName(p.cfg.Hostname)
	if err != nil {
		return ""
	}
	return name
}

// installed takes the API's own certificate from acme-client mode.
func (p *Proxy) installed(b *cert.Bundle) {
	if name := p.hostname(); name != "" && b.Leaf.VerifyHostname(name) == nil {
		p.tls.install(b)
		p.log.Info("the API serves its certificate from the CA", "hostname", name, "serial", b.Serial(), "not_after", b.NotAfter())
	}
}

// listen opens all ports before anything is served.
func (p *Proxy) listen(context.Context) (err error) {
	if p.cfg.HTTPAddr != config.None {
		if p.http, err = p.listenTCP("http-addr", p.cfg.HTTPAddr); err != nil {
			return err
		}
	}
	if p.https, err = p.listenTCP("https-addr", p.cfg.HTTPSAddr); err != nil {
		return err
	}
	if p.admin, err = admin.Listen(filepath.Join(p.cfg.DataDir, admin.SocketName)); err != nil {
		return err
	}
	p.onClose(p.admin.Close)
	return nil
}

func (p *Proxy) listenTCP(key, addr string) (net.Listener, error) {
	l, err := net.Listen("tcp", addr)
	if err == nil {
		p.onClose(l.Close)
		return l, nil
	}
	var op *net.OpError
	if errors.As(err, &op) {
		err = op.Err
	}
	return nil, fmt.Errorf("%s: cannot listen on %s: %w; %s", key, addr, err, listenRemedy(key, err))
}

func listenRemedy(key string, err error) string {
	switch {
	case errors.Is(err, os.ErrPermission):
		return "run as root, give the binary the capability (setcap cap_net_bind_service=+ep), or name another port with --" + key
	case strings.Contains(err.Error(), "in use"):
		return "stop what listens there (ss -ltnp shows it), or name another address with --" + key
	}
	return "name another address with --" + key
}

// HTTPAddr is where port 80's answers are served; config.None if they are not.
func (p *Proxy) HTTPAddr() string {
	if p.http == nil {
		return config.None
	}
	return p.http.Addr().String()
}

// HTTPSAddr is where the API is served.
func (p *Proxy) HTTPSAddr() string { return p.https.Addr().String() }

// URL is the API's address for enrolment tokens; empty if --hostname is not set.
func (p *Proxy) URL() string {
	if p.cfg.Hostname == "" {
		return ""
	}
	_, port, _ := net.SplitHostPort(p.HTTPSAddr())
	if port == "443" {
		return "https://" + p.hostname()
	}
	return "https://" + net.JoinHostPort(p.hostname(), port)
}

// registrar returns the use cases about clients, which both frontends share.
func (p *Proxy) registrar() *enroll.Registrar {
	return enroll.New(enroll.Config{
		Store: p.store, Audit: p.audit, URL: p.URL(), Pin: p.tls.pin(), Revoke: p.agent.RevokeFor, Now: p.cfg.Now,
	})
}

func (p *Proxy) restConfig(registrar *enroll.Registrar) rest.Config {
	return rest.Config{
		Auth:  auth.New(auth.Config{Store: p.store}),
		Audit: p.audit, Registrar: registrar, Agent: p.agent, Begin: p.gateway.Begin, Revoke: p.gateway.Revoke,
		Health: (&health{store: p.store, now: p.cfg.Now}).check, Logger: p.log, Now: p.cfg.Now,
		StrangerBody: p.cfg.Limits.StrangerBody, StrangerAnswer: p.cfg.Limits.StrangerAnswer,
		Lookups: p.cfg.Limits.Connections / 8, Strangers: p.cfg.Limits.Connections / 16,
	}
}

func (p *Proxy) adminConfig(registrar *enroll.Registrar) admin.Config {
	return admin.Config{
		Store: p.store, Audit: p.audit, Registrar: registrar,
		Status: p.Status, CA: p.ca, Forgotten: p.agent.Forgotten, Publish: p.publishProbe, Logger: p.log,
	}
}
