package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/go-acme/lego/v4/challenge/dns01"
	"github.com/go-acme/lego/v4/providers/dns/acmedns"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// DNS says how DNS-01 challenges are answered.
type DNS struct {
	Provider string // rfc2136, exec, httpreq or acme-dns; its settings are in the environment
	// Resolvers, as host:port, find zones and follow CNAMEs; nil: the system's.
	// lego has one list of them for the whole process, which this sets.
	Resolvers []string
	// Propagation is whom to ask whether a record is there before the CA looks:
	// PropagationNameservers, which is the default, PropagationResolvers or
	// PropagationNone.
	Propagation string
	Port        string // of the zones' name servers; "": 53
}

// lateness is how long a provider, which may not be cancellable, is waited for
// when its answer is not needed any more, or is to be removed.
const lateness = 15 * time.Second

// dnsSolver answers DNS-01 challenges through a provider.
type dnsSolver struct {
	publisher
	places    chan struct{} // one for each call at a time; nil: any number
	check     *propagation
	log       *slog.Logger
	needed    holders        // of the same record
	providing sync.WaitGroup // calls in flight
}

func newDNS01(cfg DNS, log *slog.Logger) (*dnsSolver, error) {
	muteLego()
	check, err := newPropagation(cfg)
	if err != nil {
		return nil, err
	}
	p, kind, err := openProvider(cfg.Provider, check)
	if err != nil {
		return nil, err
	}
	s := &dnsSolver{publisher: p, check: check, log: log}
	if cfg.Resolvers != nil {
		if err := dns01.AddRecursiveNameservers(cfg.Resolvers)(nil); err != nil {
			return nil, fmt.Errorf("dns-resolver: %w", err)
		}
	}
	if kind.oneAtATime {
		s.places = make(chan struct{}, 1)
	}
	return s, nil
}

func txtName(c challenge) string { return "_acme-challenge." + c.name + "." }

// exclusive: an administrator's program may replace whatever is at the name, so
// that a wildcard and its base need one turn each.
func (s *dnsSolver) exclusive(c challenge) (string, time.Duration) {
	if !s.alone {
		return "", 0
	}
	return acme.DNS01 + " " + c.name, s.pause
}

// present publishes the TXT record and waits until it can be seen.
func (s *dnsSolver) present(ctx context.Context, c challenge) (reply, error) {
	a := &txtRecord{s, c}
	s.needed.hold(c)
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

// published waits for the provider. If nobody waits any more when it is done,
// the record goes again.
func (s *dnsSolver) published(ctx context.Context, a *txtRecord, done <-chan outcome) error {
	select {
	case o := <-done:
		if o.err != nil {
			a.Remove() // a program may have come half way
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

// outcome is how a provider's call ended.
type outcome struct{ err error }

// call runs one call of the provider's, which may not be cancellable.
func (s *dnsSolver) call(f func() error) <-chan outcome {
	done := make(chan outcome, 1)
	s.providing.Go(func() {
		if s.places != nil {
			s.places <- struct{}{}
			defer func() { <-s.places }()
		}
		done <- outcome{f()}
	})
	return done
}

// providerError tells what somebody must do first from what may pass.
func providerError(err error) error {
	detail := shorten(strings.Join(strings.Fields(err.Error()), " "))
	e := &acme.Error{Kind: acme.Temporary, Op: "publish the TXT record for", Detail: detail, Err: err}
	var cname acmedns.ErrCNAMERequired
	if errors.As(err, &cname) {
		e.Kind, e.Public = acme.Permanent, true
		e.Detail = fmt.Sprintf("acme-dns has a new account for it; once, add to your zone: %s CNAME %s.", cname.FQDN, strings.TrimSuffix(cname.Target, "."))
	}
	return e
}

// close waits for calls in flight, which remove what was published.
func (s *dnsSolver) close() {
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
}

// txtRecord is a published answer.
type txtRecord struct {
	solver *dnsSolver
	challenge
}

// Fetched is not known: the CA asks somebody else's name server.
func (*txtRecord) Fetched() <-chan struct{} { return nil }

// Remove takes the record away. No name is logged: it may be a gateway's.
func (a *txtRecord) Remove() {
	if !a.solver.needed.drop(a.challenge) {
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
