package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/connlimit"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/modes/gateway"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Run serves until ctx ends or a listener fails, then stops in good order:
// nothing new is begun, what is in flight may finish for work.Grace, port 80
// answers until it has, the database is closed last.
func (p *Proxy) Run(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, p.Close()) }()
	stopPeers := p.runPeers(ctx)
	defer stopPeers()
	if err := p.client.Start(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // asked to stop before it served
		}
		return err
	}
	p.sayWhereWeStand()

	running, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	inFlight, abort := context.WithCancelCause(context.WithoutCancel(ctx))
	defer abort(nil)

	limits := p.cfg.Limits
	port80 := p.server(p.port80, limits.Port80Header)
	limits80 := limits.port80(port80.WriteTimeout)
	port80.WriteTimeout = 0
	registrar := p.registrar()
	apiCfg := p.restConfig(registrar)
	apiCfg.Stopping = running
	native := p.server(rest.New(apiCfg), limits.APIHeader)
	native.ConnContext = connlimit.NewContext
	native.BaseContext = func(net.Listener) context.Context { return inFlight }
	adminServer := p.server(admin.New(p.adminConfig(registrar)), 10*time.Second)

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
	limited := connlimit.New(p.https, limits.api()) // counts connections before their handshake: that is what costs
	serve("https-addr", native, tls.NewListener(limited, p.tls.config()))
	serve("admin socket", adminServer, p.admin)
	var loops sync.WaitGroup
	loops.Go(func() { p.Renewals.Run(running) })
	loops.Go(func() { p.Deployments.Run(running) })
	loops.Go(func() { p.unparkRegularly(running) })
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

// drain waits for requests and renewals in flight, at most Grace.
func (p *Proxy) drain(native *http.Server, abort context.CancelCauseFunc, loops *sync.WaitGroup) {
	grace, cancel := context.WithTimeout(context.Background(), work.Grace)
	defer cancel()
	if err := native.Shutdown(grace); err != nil {
		p.log.Warn("requests in flight were cut off", "error", err)
	}
	abort(gateway.ErrStopping)
	loops.Wait()
}

// reportKnown calls Config.Known.
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

// server has every limit set; handlers that stream move their own deadlines.
func (p *Proxy) server(h http.Handler, headers time.Duration) *http.Server {
	return &http.Server{
		Handler:           oneReading(h),
		ReadHeaderTimeout: headers,
		ReadTimeout:       3 * headers,
		WriteTimeout:      6 * headers,
		IdleTimeout:       6 * headers,
		MaxHeaderBytes:    8 << 10,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams:          http2Stream,
			MaxReadFrameSize:              16 << 10,
			MaxReceiveBufferPerConnection: http2Window,
			MaxReceiveBufferPerStream:     http2Window, // clients count on 65,535 until they read our settings
			WriteByteTimeout:              headers,
			SendPingTimeout:               6 * headers,
		},
		// "OPTIONS *" is no exception: the handler has the say.
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     slog.NewLogLogger(p.log.Handler(), slog.LevelDebug),
	}
}

// oneReading ends a connection after a chunked request. Whether such a request
// has a length as well is not known here any more: were there a server in front
// that goes by the length, what follows might be a request to us and a body to
// it (RFC 9112, section 6.1).
func oneReading(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// sayWhereWeStand logs what is served, and what is missing before anything can
// be ordered.
func (p *Proxy) sayWhereWeStand() {
	p.log.Info("serving", "http", p.HTTPAddr(), "https", p.HTTPSAddr(), "data_dir", p.cfg.DataDir, "store", p.store.String(),
		"acme_directory_url", p.cfg.ACMEDirectoryURL, "version", p.cfg.Version)
	for _, need := range p.cfg.Needs() {
		p.log.Warn("a setting is missing", "needs", need)
	}
}

// Status is what acmeproxy status shows.
func (p *Proxy) Status(ctx context.Context) (admin.Status, error) {
	s := admin.Status{
		Version: p.cfg.Version, HTTPAddr: p.HTTPAddr(), HTTPSAddr: p.HTTPSAddr(), Hostname: p.hostname(),
		Store: p.store.String(), Directory: p.cfg.ACMEDirectoryURL, Challenge: p.cfg.Challenge, HTTP01: p.http01(), DNS01: p.cfg.DNSProvider != "",
		Needs: p.cfg.Needs(), Certificates: []admin.Certificate{},
	}
	if p.peers != nil {
		s.Instances = p.instances()
	}
	rows, err := p.client.Status(ctx)
	for _, row := range rows {
		c := admin.WireCertificate(row.Certificate)
		if d := row.Deployment; d != nil {
			c.HookError = d.LastError
			c.Deployment = &admin.Deployment{RunBy: d.RunBy, LeaseUntil: d.LeaseUntil, NextAttempt: d.DueAt, Failures: d.Failures}
		}
		s.Certificates = append(s.Certificates, c)
	}
	return s, err
}

// http01 says who publishes HTTP-01 answers.
func (p *Proxy) http01() string {
	switch {
	case p.cfg.HTTP01Webroot != "":
		return admin.HTTP01Webroot
	case p.cfg.HTTP01Hook != "":
		return admin.HTTP01Hook
	case p.cfg.HTTPAddr == config.None:
		return admin.HTTP01Nobody
	}
	return admin.HTTP01Proxy
}

// ca is what acmeproxy check holds CAA records against.
func (p *Proxy) ca(ctx context.Context) (admin.CA, error) {
	ca := admin.CA{Directory: p.cfg.ACMEDirectoryURL}
	account, err := p.store.AccountByDirectory(ctx, ca.Directory)
	if err != nil && !errors.Is(err, managed.ErrNotFound) {
		return ca, err
	}
	ca.AccountURL = account.URL
	ca.CAAIdentities, err = p.issuer.CAAIdentities(ctx)
	return ca, err
}
