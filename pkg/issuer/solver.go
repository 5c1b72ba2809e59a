package issuer

import (
	"context"
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// method is a solver with the CA's measured speed.
type method struct {
	challenge.Solver
	kind       string
	validation pace // time from the CA's fetch until the order is ready
}

func newMethods(cfg CAConfig) (map[string]*method, error) {
	methods := map[string]*method{}
	for kind, s := range cfg.Solvers {
		methods[kind] = &method{Solver: s, kind: kind}
	}
	if methods[cfg.Challenge] == nil {
		return nil, fmt.Errorf("challenge: %s is not configured", cfg.Challenge)
	}
	return methods, nil
}

// method returns the most preferred method that is configured and can prove control
// over an identifier.
func (ca *CA) method(name string, wildcard bool) (*method, error) {
	isAddress := cert.IsIP(name)
	for _, kind := range challenge.Types(ca.cfg.Challenge, isAddress, wildcard) {
		if m := ca.methods[kind]; m != nil {
			return m, nil
		}
	}
	if isAddress {
		return nil, fmt.Errorf("%s is an IP address, which needs another challenge than DNS-01, "+
			"and this proxy has no other; use a DNS name", name)
	}
	return nil, &DNS01Error{"*." + strings.TrimPrefix(name, "*.")}
}

// DNS01Error means that a name needs DNS-01, which is not configured. Its text is for
// clients.
type DNS01Error struct {
	Name string
}

func (e *DNS01Error) Error() string {
	return e.Name + " needs a DNS-01 challenge, which this proxy does not answer; " +
		"use host names instead, or ask the administrator to set --dns-provider"
}

// CheckNames returns an error if the configured challenges cannot prove control over
// all these names. The error is a *cert.FieldError.
func (ca *CA) CheckNames(names cert.Names) error {
	for _, name := range names {
		if _, err := ca.method(name, cert.IsWildcard(name)); err != nil {
			return &cert.FieldError{Field: "names", Err: err}
		}
	}
	return nil
}

// Check returns an error for a request that can never be issued: no challenge suits
// a name, or the CA does not have the profile. Call it to refuse requests early.
// While the CA cannot be reached, any profile is accepted. The error is a
// *cert.FieldError.
func (ca *CA) Check(ctx context.Context, req cert.Request) error {
	if err := ca.CheckNames(req.Names); err != nil {
		return err
	}
	if req.Profile == "" {
		return nil
	}
	profiles, err := ca.readProfiles(ctx)
	if err != nil {
		return nil //nolint:nilerr // Issue reports it, and can be retried
	}
	if err := checkProfile(req.Profile, profiles); err != nil {
		return &cert.FieldError{Field: "profile", Err: err}
	}
	return nil
}
