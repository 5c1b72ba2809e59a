package issuer

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
)

// PoolConfig holds the CAs and the limit of a pool.
type PoolConfig struct {
	CAs      []CAConfig // the first one is the default
	InFlight int        // issuances at a time, half of them for one client; 64 if 0
	Shared   *Shared    // with earlier and later pools of the process; if nil, it is the only one
}

// Shared holds what the pools of one process share when settings change while orders
// are in flight: the turns of exclusive challenges, the answers of orders that will be
// continued, and the places for issuances and keys. It is safe for concurrent use.
type Shared struct {
	turns  challenge.Turns
	kept   challenge.Kept
	places *fair.Places // one taken for each issuance in flight
	keys   keyPlaces    // one taken for each RSA key that is being generated
}

// NewShared returns what pools share, with places for so many issuances, 64 if 0.
func NewShared(inFlight int) *Shared {
	if inFlight == 0 {
		inFlight = 64
	}
	return &Shared{places: newPlaces(inFlight), keys: newKeyPlaces()}
}

// Close removes the answers that were left for orders to be continued. shared is set
// if other instances may continue them. Their solvers may be closed already.
func (s *Shared) Close(shared bool) { s.kept.Close(shared) }

// Pool obtains certificates from one or several CAs. It limits the issuances in
// flight and gives each client a share. If a client requests a certificate twice at
// the same time, it obtains one. It is safe for concurrent use.
type Pool struct {
	standard *CA            // for requests that name no CA
	cas      map[string]*CA // by name and by directory URL
	all      []*CA
	shared   *Shared
	own      bool // shared is this pool's own
	flights  flights
}

// NewPool checks the configuration. It connects to no CA.
func NewPool(cfg PoolConfig) (*Pool, error) {
	if len(cfg.CAs) == 0 {
		return nil, errors.New("issuer: a pool needs at least one CA")
	}
	p := &Pool{cas: map[string]*CA{}, shared: cfg.Shared, own: cfg.Shared == nil}
	if p.own {
		p.shared = NewShared(cfg.InFlight)
	}
	for _, each := range cfg.CAs {
		ca, err := NewCA(each)
		if err != nil {
			return nil, err
		}
		if p.standard == nil {
			p.standard = ca
		}
		ca.turns, ca.kept = &p.shared.turns, &p.shared.kept // the solvers are shared, too
		for _, name := range distinct(ca.cfg.Name, ca.cfg.DirectoryURL) {
			if p.cas[name] != nil {
				return nil, fmt.Errorf("issuer: two CAs are called %s", name)
			}
			p.cas[name] = ca
		}
		p.all = append(p.all, ca)
	}
	return p, nil
}

func distinct(a, b string) []string {
	if a == b {
		return []string{a}
	}
	return []string{a, b}
}

// CA returns the CA with a name or a directory URL, and the default one for an empty
// name. The error is an *acme.Error.
func (p *Pool) CA(name string) (*CA, error) {
	if name == "" {
		return p.standard, nil
	}
	if ca := p.cas[name]; ca != nil {
		return ca, nil
	}
	return nil, permanent(prepare, "ca: no CA has the name %s; use a configured one", acme.Shorten(name))
}

// Issue obtains one certificate from the CA of the request, as CA.Issue does, within
// the client's shares of keys and places. A request without a journal joins an
// identical one of the same client that is in flight. Both get the same bundle, and
// the issuance ends early only if both contexts end.
func (p *Pool) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	ca, err := p.CA(req.CA)
	if err != nil {
		return nil, err
	}
	f := &flow{ca: ca, req: req, emit: serialize(emit)}
	if err := f.check(); err != nil {
		return nil, err
	}
	key, ok := f.sharingKey()
	if !ok {
		return p.issue(ctx, f)
	}
	return p.flights.join(ctx, key, f.emit, func(ctx context.Context, emit func(acme.Event)) (*cert.Bundle, error) {
		f.emit = emit
		return p.issue(ctx, f)
	})
}

func (p *Pool) issue(ctx context.Context, f *flow) (*cert.Bundle, error) {
	if err := f.generateKey(ctx, p.shared.keys.generate); err != nil {
		return nil, err
	}
	release, err := p.shared.places.Acquire(ctx, f.req.Client, f.queued)
	if err != nil {
		return nil, classify("wait for a free place", err, time.Time{})
	}
	defer release()
	return f.ca.issue(ctx, f)
}

// CheckNames returns an error if control over one of the names cannot be proven, as
// CA.CheckNames does.
func (p *Pool) CheckNames(names cert.Names) error { return p.standard.CheckNames(names) }

// Check returns an error if the CA can never issue the request, as CA.Check does.
func (p *Pool) Check(ctx context.Context, req cert.Request) error {
	ca, err := p.CA(req.CA)
	if err != nil {
		return &cert.FieldError{Field: "ca", Err: err}
	}
	return ca.Check(ctx, req)
}

// HasCA reports whether the pool has the CA of a name or a directory URL.
func (p *Pool) HasCA(name string) bool { return p.cas[name] != nil }

// Revoke revokes a certificate at the CA of a name, as CA.Revoke does.
func (p *Pool) Revoke(ctx context.Context, name string, leafDER []byte, reason cert.Reason) error {
	ca, err := p.CA(name)
	if err != nil {
		return err
	}
	return ca.Revoke(ctx, leafDER, reason)
}

// Certificate reads an issued certificate at the CA of a name, as CA.Certificate does.
func (p *Pool) Certificate(ctx context.Context, name, certURL string) (*x509.Certificate, error) {
	ca, err := p.CA(name)
	if err != nil {
		return nil, err
	}
	return ca.Certificate(ctx, certURL)
}

// CAAIdentities returns the names by which CAA records allow the default CA.
func (p *Pool) CAAIdentities(ctx context.Context) ([]string, error) {
	return p.standard.CAAIdentities(ctx)
}

// Close closes idle connections to the CAs. It removes the answers that were left for
// orders to be continued, unless other pools share them.
func (p *Pool) Close() error {
	for _, ca := range p.all {
		ca.closeIdle()
	}
	if p.own {
		p.shared.Close(p.standard.cfg.Shared)
	}
	return nil
}
