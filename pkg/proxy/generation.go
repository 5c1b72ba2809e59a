package proxy

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/modes/agent"
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
	"github.com/acmeproxy/acmeproxy/pkg/modes/gateway"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// generation holds the parts that depend on settings and that a process can replace:
// the CA with the solvers of its challenges, the modes with their name sets, files,
// hooks and limits. It stays open until its last user releases it.
type generation struct {
	process  *Proxy
	settings config.Serve

	solvers     map[string]challenge.Solver // by type of challenge
	pool        *issuer.Pool
	client      *client.Client
	agent       *agent.Agent
	gateway     *gateway.Gateway
	renewals    work.Source
	deployments work.Source
	api         http.Handler // the native API, with this generation's modes

	serving context.Context //nolint:containedctx // done when long polls must be answered
	retire  func()          // cancels serving
	users   sync.WaitGroup  // requests and jobs
	closers []func() error  // in the order of opening
	closing sync.Once
	closed  chan struct{} // closed when a replaced generation is closed
}

// openGeneration creates the first generation.
func (p *Proxy) openGeneration(context.Context) error {
	g, err := p.newGeneration(p.cfg.Serve)
	if err != nil {
		return err
	}
	p.current, p.live[g] = g, true
	p.onClose(p.closeGenerations)
	p.Renewals = work.NewLoop(source{p, func(g *generation) work.Source { return g.renewals }}, renewal.Workers, p.cfg.Now, p.log)
	p.Deployments = work.NewLoop(source{p, func(g *generation) work.Source { return g.deployments }}, 2, p.cfg.Now, p.log)
	return nil
}

// SettingsError reports settings that the proxy cannot use, such as a missing file.
type SettingsError struct{ error }

func (e *SettingsError) Unwrap() error { return e.error }

// newGeneration creates a generation that is not in use yet.
func (p *Proxy) newGeneration(settings config.Serve) (_ *generation, err error) {
	g := &generation{process: p, settings: settings, closed: make(chan struct{})}
	defer func() {
		if err != nil {
			err = errors.Join(err, g.close())
		}
	}()
	if err := g.openSolvers(); err != nil {
		return nil, &SettingsError{err}
	}
	if g.pool, err = g.newPool(); err != nil {
		return nil, &SettingsError{err}
	}
	g.closers = append(g.closers, g.pool.Close)
	if g.client, err = g.newClient(); err != nil {
		return nil, &SettingsError{err}
	}
	g.agent = g.newAgent()
	ca := reporting{g.pool, g.issued}
	g.gateway = gateway.New(gateway.Config{Issuer: ca, Audit: p.audit, Logger: p.log})
	g.renewals = g.newQueue(checkingOwn{ca, g})
	g.deployments = client.Deployments{Client: g.client}
	g.serving, g.retire = context.WithCancel(p.stopping)
	return g, nil
}

// close closes everything that the generation opened, the newest first. It may be
// called more than once.
func (g *generation) close() (err error) {
	g.closing.Do(func() {
		for _, c := range slices.Backward(g.closers) {
			err = errors.Join(err, c())
		}
	})
	return err
}

// openAPI creates the API. It needs the open ports, because enrolment tokens contain
// their addresses.
func (p *Proxy) openAPI(context.Context) error {
	p.auth = auth.New(auth.Config{Store: p.store})
	p.health = &health{store: p.store, now: p.cfg.Now}
	p.registrar = enroll.New(enroll.Config{
		Store: p.store, Audit: p.audit, URL: p.URL, ACME: p.acmeURL, BindingSecret: p.bindingSecret, Pin: p.tls.pin(), Revoke: p.revokeFor, Door: p.relay, Now: p.cfg.Now,
		Changed: p.clientsChanged,
	})
	p.checks = p.newChecks()
	p.current.api = rest.New(p.current.restConfig())
	return p.tls.setName(p.current.publicName())
}

func (g *generation) restConfig() rest.Config {
	p := g.process
	return rest.Config{
		Auth: p.auth, Audit: p.audit, Registrar: p.registrar, Agent: g.agent, Begin: g.gateway.Begin, Revoke: g.gateway.Revoke,
		Check:   p.checks.Check,
		Present: p.offload.Present, Withdraw: p.offload.Withdraw,
		Health: p.health.check, Stopping: g.serving, Logger: p.log, Now: p.cfg.Now,
		StrangerBody: p.cfg.Limits.StrangerBody, StrangerAnswer: p.cfg.Limits.StrangerAnswer,
		Lookups: p.cfg.Limits.Connections / 8, Strangers: p.cfg.Limits.Connections / 16,
	}
}

// use returns the current generation. It stays open until release.
func (p *Proxy) use() (g *generation, release func()) {
	p.mu.RLock()
	defer p.mu.RUnlock()
	g = p.current
	g.users.Add(1)
	return g, g.users.Done
}

// serveAPI serves the ACME door, and the native API of the current generation.
func (p *Proxy) serveAPI(w http.ResponseWriter, r *http.Request) {
	if isACME(r.URL.Path) {
		p.acme.ServeHTTP(w, r)
		return
	}
	g, release := p.use()
	defer release()
	g.api.ServeHTTP(w, r)
}

// source claims the work of the current generation.
type source struct {
	process *Proxy
	of      func(*generation) work.Source
}

// Claim implements work.Source. Each job keeps its generation open.
func (s source) Claim(ctx context.Context, limit int) ([]work.Job, error) {
	g, release := s.process.use()
	defer release()
	jobs, err := s.of(g).Claim(ctx, limit)
	for i, job := range jobs {
		g.users.Add(1)
		jobs[i] = func(ctx context.Context) {
			defer g.users.Done()
			job(ctx)
		}
	}
	return jobs, err
}

// Next implements work.Source.
func (s source) Next(ctx context.Context) (time.Time, error) {
	g, release := s.process.use()
	defer release()
	return s.of(g).Next(ctx)
}
