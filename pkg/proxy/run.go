package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/modes/client"
	"github.com/acmeproxy/acmeproxy/pkg/modes/gateway"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Run serves until ctx is done or a listener fails, then stops cleanly. It starts no
// new work, and work in flight may finish within work.Grace. Port 80 answers until
// then. The database is closed last.
func (p *Proxy) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.Close()) }()
	stopPeers := p.runPeers(ctx)
	defer stopPeers()
	if err := p.startModes(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // stopped before it served
		}
		return err
	}
	p.TryNow(ctx)
	p.logStartup()

	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	inFlight, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)

	limits := p.cfg.Limits
	port80 := p.server(http.HandlerFunc(p.servePort80), limits.Port80Header)
	limits80 := limits.port80(port80.WriteTimeout)
	port80.WriteTimeout = 0
	context.AfterFunc(running, p.stop)
	native := p.server(http.HandlerFunc(p.serveAPI), limits.APIHeader)
	native.ConnContext = connlimit.NewContext
	native.BaseContext = func(net.Listener) context.Context { return inFlight }
	adminServer := p.server(admin.New(p.adminConfig()), 10*time.Second)

	var serving sync.WaitGroup
	serve := func(name string, s *http.Server, l net.Listener) {
		serving.Go(func() {
			if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				stop(fmt.Errorf("%s: %w", name, err))
			}
		})
	}
	if p.http != nil {
		serve("http-addr", port80, connlimit.New(p.http, limits80))
	}
	limited := connlimit.New(p.https, limits.api()) // counts connections before their handshake, which is expensive
	serve("https-addr", native, tls.NewListener(limited, p.tls.config()))
	serve("admin socket", adminServer, p.admin)
	if p.sign != nil {
		for _, port := range p.sign.ports {
			serve("sign-config", port.server, port)
		}
	}
	var loops sync.WaitGroup
	for _, loop := range []func(context.Context){
		p.Renewals.Run, p.Deployments.Run, p.runDoor, p.offload.Run,
		p.unparkRegularly, p.finishRevocationsRegularly, p.watchOwn,
	} {
		loops.Go(func() { loop(running) })
	}
	go p.reloadOnHangup(running) // a file that cannot be read must not delay the end
	loops.Go(func() { p.reportKnown(running, limited.Known) })

	<-running.Done()
	p.log.Info("stopping", "grace", work.Grace.String())
	p.drain(native, abort, &loops)
	err = errors.Join(native.Close(), adminServer.Close(), port80.Close())
	serving.Wait()
	p.log.Info("stopped")
	if cause := context.Cause(running); !errors.Is(cause, context.Canceled) {
		err = errors.Join(cause, err)
	}
	return err
}

// startModes updates the store to match the settings.
func (p *Proxy) startModes(ctx context.Context) error {
	g, release := p.use()
	defer release()
	err := g.client.Start(ctx)
	if errors.As(err, new(*client.SharedFolderError)) {
		return &SettingsError{g.settings.Locate(err)}
	}
	return err
}

// drain waits up to work.Grace for requests and renewals in flight.
func (p *Proxy) drain(native *http.Server, abort context.CancelCauseFunc, loops *sync.WaitGroup) {
	grace, cancel := context.WithTimeout(context.Background(), work.Grace)
	defer cancel()
	if err := native.Shutdown(grace); err != nil {
		p.log.Warn("requests in flight were cut off", "error", err)
	}
	abort(gateway.ErrStopping)
	if err := p.sign.close(grace); err != nil {
		p.log.Warn("requests to sign a CSR were cut off", "error", err)
	}
	loops.Wait()
}

// reportKnown calls Config.Known when the count has changed, until ctx is done.
func (p *Proxy) reportKnown(ctx context.Context, count func() int) {
	if p.cfg.Known == nil {
		return
	}
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for last := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if n := count(); n != last {
				last = n
				p.cfg.Known(n)
			}
		}
	}
}

// logStartup logs the addresses, and the settings that are missing before a
// certificate can be ordered.
func (p *Proxy) logStartup() {
	p.log.Info("serving", "http", p.HTTPAddr(), "https", p.HTTPSAddr(), "data_dir", p.cfg.DataDir, "store", p.store.String(),
		"acme_directory_url", p.cfg.ACMEDirectoryURL, "version", p.cfg.Version)
	p.logDoor()
	p.logSign()
	for _, doubt := range p.cfg.Doubts() {
		p.log.Warn("settings do not fit together", "doubt", doubt)
	}
	for _, need := range p.cfg.Needs() {
		p.log.Warn("a setting is missing", "needs", need)
	}
}
