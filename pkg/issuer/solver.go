package issuer

import (
	"context"
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// method is a solver and the CA's speed with it.
type method struct {
	challenge.Solver
	kind       string
	validation pace // from the CA's look to the order's being ready
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

// method returns the method that proves control over an identifier: the best one
// that is configured.
func (ca *CA) method(name string, wildcard bool) (*method, error) {
	isAddress := cert.IsIP(name)
	for _, kind := range challenge.Types(ca.cfg.Challenge, isAddress, wildcard) {
		if m := ca.methods[kind]; m != nil {
			return m, nil
		}
	}
	if isAddress {
		return nil, fmt.Errorf("%s is an IP address, for which there is no DNS-01 challenge, and this proxy answers no other; use a DNS name", name)
	}
	return nil, fmt.Errorf("*.%s needs a DNS-01 challenge, which this proxy does not answer; list the hosts instead, or have its administrator set --dns-provider", strings.TrimPrefix(name, "*."))
}

// CheckNames tells whether control over all these names can be proven with
// what is configured. The error is a *cert.FieldError.
func (ca *CA) CheckNames(names cert.Names) error {
	for _, name := range names {
		if _, err := ca.method(name, cert.IsWildcard(name)); err != nil {
			return &cert.FieldError{Field: "names", Err: err}
		}
	}
	return nil
}

// Check tells what of a request can never be issued: names without a challenge
// for them, a profile that the CA does not have. Whoever takes requests asks
// here first, so that they are refused at once. While the CA cannot be reached
// its profiles are not known, and any will do. The error is a *cert.FieldError.
func (ca *CA) Check(ctx context.Context, req cert.Request) error {
	if err := ca.CheckNames(req.Names); err != nil {
		return err
	}
	if req.Profile == "" {
		return nil
	}
	profiles, err := ca.profiles(ctx)
	if err != nil {
		return nil //nolint:nilerr // Issue will say so, and it can be tried again
	}
	if err := checkProfile(req.Profile, profiles); err != nil {
		return &cert.FieldError{Field: "profile", Err: err}
	}
	return nil
}
