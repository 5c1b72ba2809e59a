package issuer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/peers"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// challenge is what is to be answered.
type challenge struct {
	name             string // the identifier; a wildcard's without "*."
	token            string
	keyAuthorization string
}

// solver answers challenges of one type. It is safe for concurrent use.
type solver interface {
	// present publishes the answer; when it returns, the CA may look. After an
	// error nothing stays published.
	present(ctx context.Context, c challenge) (reply, error)
	// exclusive is for answers that would get into each other's way: of the
	// challenges with the same key, one is worked on at a time, with a pause
	// after each. An empty key is for all others.
	exclusive(c challenge) (key string, pause time.Duration)
}

// reply is an answer that is published.
type reply interface {
	// Fetched is closed when the CA has looked for the first time; nil if that
	// cannot be known.
	Fetched() <-chan struct{}
	// Remove takes the answer away again. It is called once.
	Remove()
}

// method is a solver and what is known of the CA's ways with it.
type method struct {
	solver
	kind       string
	validation pace // from the CA's look to the order's being ready
}

// newMethods makes a method of everything that is configured.
func newMethods(cfg Config) (map[string]*method, error) {
	methods := map[string]*method{}
	add := func(kind string, s solver) { methods[kind] = &method{solver: s, kind: kind} }
	switch {
	case cfg.HTTPHook != "":
		add(acme.HTTP01, newHookSolver(cfg.HTTPHook, cfg.Logger))
	case cfg.Webroot != "":
		w, err := newWebroot(cfg.Webroot)
		if err != nil {
			return nil, err
		}
		add(acme.HTTP01, w)
	case cfg.Responder != nil:
		add(acme.HTTP01, http01{cfg.Responder, cfg.Peers})
	}
	if cfg.TLSALPN != nil {
		add(acme.TLSALPN01, tlsALPN01{cfg.TLSALPN, cfg.Peers})
	}
	if cfg.DNS != nil {
		d, err := newDNS01(*cfg.DNS, cfg.Logger)
		if err != nil {
			return nil, err
		}
		add(acme.DNS01, d)
	}
	if methods[cfg.Challenge] == nil {
		return nil, fmt.Errorf("challenge: %s is not configured", cfg.Challenge)
	}
	return methods, nil
}

// method picks how control over an identifier is proven: by the preferred
// challenge, unless the identifier leaves no choice.
func (is *Issuer) method(name string, wildcard bool) (*method, error) {
	preferred := is.methods[is.cfg.Challenge]
	switch {
	case wildcard:
		if m := is.methods[acme.DNS01]; m != nil {
			return m, nil
		}
		return nil, fmt.Errorf("*.%s needs a DNS-01 challenge, which this proxy does not answer; list the hosts instead, or have its administrator set --dns-provider", strings.TrimPrefix(name, "*."))
	case cert.IsIP(name) && preferred.kind == acme.DNS01: // RFC 8738, section 7
		for _, kind := range []string{acme.HTTP01, acme.TLSALPN01} {
			if m := is.methods[kind]; m != nil {
				return m, nil
			}
		}
		return nil, fmt.Errorf("%s is an IP address, for which there is no DNS-01 challenge, and this proxy answers no other; use a DNS name", name)
	}
	return preferred, nil
}

// CheckNames tells whether control over all these names can be proven with
// what is configured. The error is a *cert.FieldError.
func (is *Issuer) CheckNames(names cert.Names) error {
	for _, name := range names {
		if _, err := is.method(name, cert.IsWildcard(name)); err != nil {
			return &cert.FieldError{Field: "names", Err: err}
		}
	}
	return nil
}

// Check tells what of a request can never be issued: names without a challenge
// for them, a profile that the CA does not have. Whoever takes requests asks
// here first, so that they are refused at once. While the CA cannot be reached
// its profiles are not known, and any will do. The error is a *cert.FieldError.
func (is *Issuer) Check(ctx context.Context, req cert.Request) error {
	if err := is.CheckNames(req.Names); err != nil {
		return err
	}
	if req.Profile == "" {
		return nil
	}
	profiles, err := is.profiles(ctx)
	if err != nil {
		return nil //nolint:nilerr // Issue will say so, and it can be tried again
	}
	if err := checkProfile(req.Profile, profiles); err != nil {
		return &cert.FieldError{Field: "profile", Err: err}
	}
	return nil
}

// sharedReply is one that other instances give, too.
type sharedReply struct {
	reply
	withdraw func()
}

func (r sharedReply) Remove() {
	r.withdraw()
	r.reply.Remove()
}

// http01 answers from memory, on port 80 of all instances.
type http01 struct {
	responder *responder.Responder
	peers     *peers.Peers
}

func (s http01) present(ctx context.Context, c challenge) (reply, error) {
	a := s.responder.Put(c.name, c.token, c.keyAuthorization)
	shared := peers.Answer{Type: acme.HTTP01, Name: c.name, Token: c.token, KeyAuthorization: c.keyAuthorization}
	return sharedReply{a, s.peers.Share(ctx, shared, a.SetFetched)}, nil
}

func (http01) exclusive(challenge) (string, time.Duration) { return "", 0 }

// tlsALPN01 answers on the API's port. The CA asks by name alone, so there can
// be one answer for a name at a time.
type tlsALPN01 struct {
	certificates *responder.TLSALPN
	peers        *peers.Peers
}

func (s tlsALPN01) present(ctx context.Context, c challenge) (reply, error) {
	a, err := s.certificates.Put(c.name, c.keyAuthorization)
	if err != nil {
		return nil, err
	}
	shared := peers.Answer{Type: acme.TLSALPN01, Name: c.name, KeyAuthorization: c.keyAuthorization}
	return sharedReply{a, s.peers.Share(ctx, shared, a.SetFetched)}, nil
}

func (tlsALPN01) exclusive(c challenge) (string, time.Duration) {
	return acme.TLSALPN01 + " " + c.name, 0
}
