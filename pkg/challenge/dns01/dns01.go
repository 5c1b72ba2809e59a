package dns01

import (
	"context"
	"errors"
	"fmt"
	"io"
	stdlog "log"
	"log/slog"
	"strings"
	"sync"
	"time"

	legolog "github.com/go-acme/lego/v4/log"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// Config configures the solver.
type Config struct {
	Provider string // a name of dnsprovider.All
	// Getenv returns the environment variables that configure the provider. If nil,
	// they are empty. lego's providers read the process's environment themselves.
	Getenv func(string) string
	// Resolvers, as host:port, find zones and follow CNAMEs. If nil, the system's
	// resolvers are used.
	Resolvers []string
	// Propagation selects the servers that must have a record before the CA checks it:
	// Nameservers, which is the default, Resolvers or None.
	Propagation string
	Port        string       // of the zones' name servers; if empty, 53
	Logger      *slog.Logger // if nil, nothing is logged
	// Shared holds what this solver shares with earlier and later ones of the process.
	// If nil, it is the only one.
	Shared *Shared
}

// lateness limits the wait for a provider's call, which may not be cancellable, when
// its record is no longer needed or must be removed.
const lateness = 15 * time.Second

// solver implements challenge.Solver through a provider.
type solver struct {
	publisher
	serial    *sync.Mutex // held by each call; if nil, calls run concurrently
	check     *propagation
	log       *slog.Logger
	needed    *challenge.Holders // of the same record
	providing sync.WaitGroup     // calls in flight
}

// New returns a solver with the provider of cfg. It does not contact the provider. An
// error names the variables that the provider needs.
func New(cfg Config) (challenge.Solver, error) {
	if cfg.Getenv == nil {
		cfg.Getenv = func(string) string { return "" }
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Shared == nil {
		cfg.Shared = new(Shared)
	}
	muteLego()
	check, err := newPropagation(cfg)
	if err != nil {
		return nil, err
	}
	p, kind, err := openProvider(cfg.Provider, setup{check: check, getenv: cfg.Getenv, shared: cfg.Shared})
	if err != nil {
		return nil, err
	}
	s := &solver{publisher: p, check: check, log: cfg.Logger, needed: cfg.Shared.places.Holders(cfg.Provider)}
	if kind.oneAtATime {
		s.serial = &cfg.Shared.serial
	}
	return s, nil
}

// muteLego discards the log of lego, which writes names to stderr.
var muteLego = sync.OnceFunc(func() {
	legolog.Logger = stdlog.New(io.Discard, "", 0)
})

// txtName returns the name of a challenge's TXT record.
func txtName(c challenge.Challenge) string { return "_acme-challenge." + c.Name + "." }

// Exclusive returns a key for an administrator's program. It may replace the values at
// a name, so a wildcard and its base need separate turns.
func (s *solver) Exclusive(c challenge.Challenge) (string, time.Duration) {
	if !s.alone {
		return "", 0
	}
	return acme.DNS01 + " " + c.Name, s.pause
}

// Present publishes the TXT record and waits until the servers have it.
func (s *solver) Present(ctx context.Context, c challenge.Challenge) (challenge.Answer, error) {
	a := &txtRecord{s, c}
	s.needed.Hold(c)
	done := s.call(func() error { return s.publish(ctx, c) })
	if err := s.published(ctx, a, done); err != nil {
		return nil, err
	}
	if err := s.check.wait(ctx, txtName(c), dnsValue(c), s.timeout, s.interval); err != nil {
		a.Remove()
		return nil, err
	}
	return a, nil
}

// published waits for the provider. If ctx ends first, the record is removed as soon
// as the provider is done.
func (s *solver) published(ctx context.Context, a *txtRecord, done <-chan outcome) error {
	select {
	case o := <-done:
		if o.err != nil {
			a.Remove() // a program may have published it before it failed
			return providerError(o.err)
		}
		return nil
	case <-ctx.Done():
	}
	late := time.NewTimer(lateness)
	defer late.Stop()
	select {
	case <-done:
		a.Remove()
	case <-late.C:
		s.providing.Go(func() {
			<-done
			a.Remove()
		})
	}
	return ctx.Err()
}

// outcome is the result of a provider's call.
type outcome struct{ err error }

// call runs one call of the provider, which may not be cancellable.
func (s *solver) call(f func() error) <-chan outcome {
	done := make(chan outcome, 1)
	s.providing.Go(func() {
		if s.serial != nil {
			s.serial.Lock()
			defer s.serial.Unlock()
		}
		done <- outcome{f()}
	})
	return done
}

// providerError returns an error of a provider as an *acme.Error. It is permanent if
// the administrator must do something first.
func providerError(err error) error {
	detail := acme.Shorten(err.Error())
	e := &acme.Error{Kind: acme.Temporary, Op: "publish the TXT record for", Detail: detail, Err: err}
	var cname acmedns.ErrCNAMERequired
	if errors.As(err, &cname) {
		e.Kind, e.Public = acme.Permanent, true
		e.Detail = fmt.Sprintf("acme-dns has a new account for it; once, add to your zone: %s CNAME %s.", cname.FQDN, strings.TrimSuffix(cname.Target, "."))
	}
	return e
}

// Close waits for calls in flight, which remove records.
func (s *solver) Close() error {
	done := make(chan struct{})
	go func() {
		s.providing.Wait()
		close(done)
	}()
	t := time.NewTimer(lateness)
	defer t.Stop()
	select {
	case <-done:
	case <-t.C:
		s.log.Warn("the DNS provider is still at work; a TXT record may stay")
	}
	return nil
}

// txtRecord is a published answer.
type txtRecord struct {
	solver    *solver
	challenge challenge.Challenge
}

// Fetched returns nil: the CA asks another server.
func (*txtRecord) Fetched() <-chan struct{} { return nil }

// Remove removes the record. It logs no name, which may be a gateway's.
func (a *txtRecord) Remove() {
	if !a.solver.needed.Drop(a.challenge) {
		return
	}
	done := a.solver.call(func() error { return a.solver.withdraw(context.Background(), a.challenge) })
	t := time.NewTimer(lateness)
	defer t.Stop()
	select {
	case o := <-done:
		if o.err != nil {
			a.solver.log.Warn("a TXT record could not be removed; the DNS provider's log says more")
		}
	case <-t.C:
		a.solver.log.Warn("the DNS provider takes long to remove a TXT record")
	}
}
