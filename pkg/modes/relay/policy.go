package relay

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

// Order implements acmeserver.Policy. What can be refused is refused here, because many
// clients show the reason of a later refusal badly.
func (r *Relay) Order(ctx context.Context, o acmeserver.OrderRequest) (acmeserver.Terms, error) {
	id, names, err := r.authorize(ctx, o, policy.Order, "")
	if err != nil {
		return acmeserver.Terms{}, err
	}
	if err := r.checkProvable(names); err != nil {
		return acmeserver.Terms{}, err
	}
	if err := r.cfg.Audit.Pace(id); err != nil { // each order is a row in the database
		return acmeserver.Terms{}, r.refusal(err, names)
	}
	share := shareOf(id.Client.ID, names, o.Profile)
	if err := r.refusedBefore(share); err != nil {
		return acmeserver.Terms{}, err
	}
	return acmeserver.Terms{Share: share}, nil
}

// Finalize implements acmeserver.Policy.
func (r *Relay) Finalize(ctx context.Context, o acmeserver.OrderRequest, csr *cert.CSR) error {
	_, _, err := r.authorize(ctx, o, policy.Issuance, csr.KeyType)
	return err
}

// Deliver implements acmeserver.Deliverer.
func (r *Relay) Deliver(ctx context.Context, o acmeserver.OrderRequest) error {
	_, _, err := r.decide(ctx, o, policy.Order, "", false)
	return err
}

// authorize decides about an order. The quota is counted later, once for each order at the
// CA.
func (r *Relay) authorize(ctx context.Context, o acmeserver.OrderRequest, purpose policy.Purpose, key cert.KeyType) (clients.Identity, cert.Names, error) {
	return r.decide(ctx, o, purpose, key, true)
}

// decide decides about an order, or about its certificate if there is nothing to announce.
func (r *Relay) decide(
	ctx context.Context, o acmeserver.OrderRequest, purpose policy.Purpose, key cert.KeyType, announces bool,
) (clients.Identity, cert.Names, error) {
	id, err := r.caller(ctx, o.Account, &o.Addr)
	if err != nil {
		return id, nil, err
	}
	names, err := namesOf(o.Identifiers)
	if err != nil {
		return id, nil, &acme.Problem{Type: acme.RejectedIdentifier, Detail: err.Error()}
	}
	ask := r.ask(id, names, o.Profile, purpose, key)
	ask.Announces = announces
	if err := r.cfg.Audit.Authorize(ctx, ask); err != nil {
		return id, nil, r.refusal(err, names)
	}
	return id, names, r.checkOwn(names)
}

// checkOwn refuses the names of the proxy itself, whatever the grants say. A pattern such
// as *.example.com often covers them. A wildcard needs a grant that says so.
func (r *Relay) checkOwn(names cert.Names) error {
	if r.cfg.OwnNames == nil {
		return nil
	}
	for _, own := range r.cfg.OwnNames() {
		if slices.Contains(names, own) {
			return &acme.Problem{Type: acme.RejectedIdentifier, Detail: own + " is the name of the proxy itself, which no client may have; leave it out"}
		}
	}
	return nil
}

// Refuses returns why the proxy refuses names, whatever the grants say.
func (r *Relay) Refuses(names cert.Names) (reasons []string) {
	for _, err := range []error{r.checkOwn(names), r.checkProvable(names)} {
		var p *acme.Problem
		if !errors.As(err, &p) {
			continue
		}
		for _, sub := range p.Subproblems {
			reasons = append(reasons, sub.Detail)
		}
		if len(p.Subproblems) == 0 {
			reasons = append(reasons, p.Detail)
		}
	}
	return reasons
}

func (r *Relay) ask(id clients.Identity, names cert.Names, profile string, purpose policy.Purpose, key cert.KeyType) audit.Ask {
	return audit.Ask{By: id, Action: audit.ActionRequest, Request: policy.Request{
		Mode: clients.ModeACME, Names: names, KeyType: key, Profile: profile, Purpose: purpose,
	}}
}

func namesOf(ids []acme.Identifier) (cert.Names, error) {
	list := make([]string, 0, len(ids))
	for _, id := range ids {
		list = append(list, id.Value)
	}
	return cert.ParseNames(list...)
}

// identifier returns the identifier of a name, with "*." if it is a wildcard.
func identifier(name string) acme.Identifier {
	if _, err := netip.ParseAddr(name); err == nil {
		return acme.Identifier{Type: acme.TypeIP, Value: name}
	}
	return acme.Identifier{Type: acme.TypeDNS, Value: name}
}

// checkProvable refuses names that the proxy cannot prove to the CA.
func (r *Relay) checkProvable(names cert.Names) error {
	ca, release := r.cfg.CA()
	defer release()
	p := &acme.Problem{Type: acme.RejectedIdentifier}
	for _, name := range names {
		err := ca.CheckNames(cert.Names{name})
		if err == nil {
			continue
		}
		var field *cert.FieldError
		if errors.As(err, &field) {
			err = field.Err
		}
		if p.Detail == "" {
			p.Detail = err.Error()
		}
		p.Subproblems = append(p.Subproblems, acme.Subproblem{Type: acme.RejectedIdentifier, Identifier: identifier(name), Detail: err.Error()})
	}
	if len(p.Subproblems) == 0 {
		return nil
	}
	return p
}

// shareOf names the orders of one client for the same certificate.
func shareOf(clientID string, names cert.Names, profile string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{profile}, names...), "\x00")))
	return clientID + "." + base64.RawURLEncoding.EncodeToString(sum[:])
}
