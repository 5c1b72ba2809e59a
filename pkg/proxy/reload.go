package proxy

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Reload reads the settings again and replaces the generation, even if no setting has
// changed, because files that settings name may have. It returns the keys of the
// changed settings. On an error the earlier settings stay in force; it wraps
// *config.RestartError if only a new process can apply a change. Reloads run one after
// another.
func (p *Proxy) Reload(ctx context.Context) (changed []string, err error) {
	p.replacing.Lock()
	defer p.replacing.Unlock()
	if p.stopping.Err() != nil {
		return nil, errClosed
	}
	settings, changed, err := p.reread()
	if err == nil {
		// A caller that disconnects must not leave it half done.
		_, err = p.replace(context.WithoutCancel(ctx), settings)
	}
	if err = settings.Locate(err); err != nil {
		p.log.Error("reload refused", "error", err)
		return nil, err
	}
	p.log.Info("reloaded", "changed", changed)
	return changed, nil
}

// reread returns the settings and the keys of those that have changed.
func (p *Proxy) reread() (settings config.Serve, changed []string, err error) {
	if p.cfg.Reread == nil {
		return settings, nil, errors.New("this proxy has no configuration to read again")
	}
	read, err := p.cfg.Reread()
	if err != nil {
		return settings, nil, err
	}
	if err := read.Validate(); err != nil {
		return settings, nil, err
	}
	changed, err = config.Changes(p.currentSettings(), *read)
	return *read, changed, err
}

func (p *Proxy) currentSettings() config.Serve {
	g, release := p.use()
	defer release()
	return g.settings
}

// reloadOnHangup reloads for each value of Config.Hangup until ctx is done. Reload
// logs its outcome. A value that arrives during a reload starts another one.
func (p *Proxy) reloadOnHangup(ctx context.Context) {
	for {
		select {
		case <-p.cfg.Hangup:
			_, _ = p.Reload(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// Replace creates a generation from settings and swaps it in. Requests and jobs in
// flight finish with the earlier one. Its long polls are answered at once. The
// channel closed is closed when the earlier generation is.
//
// Settings of the process, such as addresses, the data directory and the database,
// do not change. On an error the earlier settings stay in force.
func (p *Proxy) Replace(ctx context.Context, settings config.Serve) (closed <-chan struct{}, err error) {
	settings = p.withProcessSettings(settings)
	if err := settings.Validate(); err != nil {
		return nil, err
	}
	p.replacing.Lock()
	defer p.replacing.Unlock()
	return p.replace(ctx, settings)
}

// replace does the work of Replace. The caller holds replacing.
func (p *Proxy) replace(ctx context.Context, settings config.Serve) (closed <-chan struct{}, err error) {
	g, err := p.newGeneration(settings)
	if err != nil {
		return nil, err
	}
	g.api = rest.New(g.restConfig())
	earlier, err := p.start(ctx, g)
	if err != nil {
		g.retire()
		return nil, errors.Join(err, g.close())
	}
	if settings.HTTPFallback != earlier.settings.HTTPFallback {
		if err := p.setFallback(settings); err != nil { // impossible: Validate has checked it
			p.log.Error("port 80 keeps its fallback", "error", err)
		}
	}
	// Impossible: the key is ours, and Validate has checked the names.
	if err := errors.Join(p.tls.setName(g.publicName()), p.setDoor()); err != nil {
		p.log.Error("the API or the ACME door keeps its earlier name", "error", err)
	}
	p.relay.Reloaded()
	p.audit.SetDefaultQuota(settings.DailyQuota(p.newQuota))
	if p.cfg.LogLevel != nil {
		p.cfg.LogLevel.Set(settings.Level())
	}
	earlier.retire()
	go p.closeEarlier(earlier)
	p.TryNow(ctx)
	p.Renewals.Wake()
	p.Deployments.Wake()
	return earlier.closed, nil
}

// start makes the store match a generation and swaps it in. On an error, the store
// matches the earlier one again.
func (p *Proxy) start(ctx context.Context, g *generation) (earlier *generation, err error) {
	if err = g.client.Start(ctx); err == nil {
		earlier, err = p.swap(g)
	}
	if err == nil || p.stopping.Err() != nil { // the next process starts with its own settings
		return earlier, err
	}
	current, release := p.use()
	defer release()
	if undo := work.Persist(ctx, current.client.Start); undo != nil {
		p.log.Error("the database still has certificates of the refused settings; reload again", "error", undo)
	}
	return nil, err
}

// withProcessSettings returns settings with the values that only a new process
// can change.
func (p *Proxy) withProcessSettings(settings config.Serve) config.Serve {
	return config.KeepProcess(p.cfg.Serve, settings)
}

var errClosed = errors.New("the proxy is stopping")

func (p *Proxy) swap(g *generation) (earlier *generation, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live == nil {
		return nil, errClosed
	}
	earlier, p.current = p.current, g
	p.live[g] = true
	return earlier, nil
}

// closeEarlier closes a replaced generation after its last use.
func (p *Proxy) closeEarlier(g *generation) {
	defer close(g.closed)
	g.users.Wait()
	if err := g.close(); err != nil {
		p.log.Warn("the earlier settings' CA was not closed", "error", err)
	}
	p.endEarlier()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.live, g)
}

// endFormer ends renewals of names that were removed from the settings, after the
// certificate that replaces theirs was deployed. It does not wait for a reload, which may
// hang in a file.
func (p *Proxy) endFormer() {
	end := func() {
		defer p.replacing.Unlock()
		p.endWith((*client.Client).EndFormer)
	}
	if p.replacing.TryLock() { // a new generation's rows are not configured in the present one
		end()
		return
	}
	go func() {
		p.replacing.Lock()
		end()
	}()
}

// endEarlier ends renewals of names that were removed from the settings while an
// attempt for them was in flight.
func (p *Proxy) endEarlier() { p.endWith((*client.Client).EndOthers) }

func (p *Proxy) endWith(end func(*client.Client, context.Context) error) {
	if p.stopping.Err() != nil {
		return // the next start does it
	}
	g, release := p.use()
	defer release()
	ctx, cancel := context.WithTimeout(p.stopping, time.Minute)
	defer cancel()
	if err := work.Persist(ctx, func(ctx context.Context) error { return end(g.client, ctx) }); err != nil && p.stopping.Err() == nil {
		p.log.Warn("removed names may still be renewed; reload again", "error", err)
	}
}

// closeGenerations closes all generations, even those in use. First it removes the
// answers of orders that the next process continues.
func (p *Proxy) closeGenerations() error {
	p.mu.Lock()
	live := p.live
	p.live = nil
	p.mu.Unlock()
	p.issuing.Close(p.peers != nil)
	var errs []error
	for g := range live {
		g.retire()
		errs = append(errs, g.close())
	}
	return errors.Join(errs...)
}
