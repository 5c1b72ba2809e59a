package relay

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// reasons are the reasons that the CA accepts, by their code (RFC 5280, section 5.3.1).
var reasons = map[int]cert.Reason{0: cert.Unspecified, 1: cert.KeyCompromise, 4: cert.Superseded, 5: cert.CessationOfOperation}

// Revoke implements acmeserver.Revoker. The Server has checked that the request is signed
// by an account that has the certificate or is authorized for its names, or by the
// certificate's key.
func (r *Relay) Revoke(ctx context.Context, req acmeserver.RevokeRequest) error {
	c := req.Certificate
	why, ok := reasons[req.Reason]
	switch {
	case !ok:
		return &acme.Problem{Type: acme.BadRevocationReason, Detail: "reason: the CA accepts 0, 1, 4 and 5 only"}
	case c.ID == "": // strangers with any key must cause no requests to the CA
		return &acme.Problem{Type: acme.Unauthorized, Status: http.StatusForbidden, Detail: "certificate: this proxy did not relay it, or has deleted its record; revoke it where it was obtained"}
	}
	id, own, err := r.requester(ctx, req)
	if err != nil {
		return err
	}
	ask := audit.Ask{By: id, Action: audit.ActionRevoke, Own: own, Request: policy.Request{
		Mode: clients.ModeACME, Names: c.Identifiers, Purpose: policy.Revocation,
	}}
	// It counts against no quota: a leaked key must be revoked at once.
	if err := cmp.Or(r.cfg.Audit.Authorize(ctx, ask), r.cfg.Audit.Pace(id)); err != nil {
		return r.refusal(err, c.Identifiers)
	}
	ca, release := r.cfg.CA()
	defer release()
	issuedBy := parseState(c.State).CA
	if !ca.HasCA(issuedBy) {
		return &acme.Problem{Type: acme.ServerInternal, Detail: "the proxy does not use the CA of this certificate any more, so it cannot revoke it; ask the proxy's administrator"}
	}
	err = ca.Revoke(ctx, issuedBy, req.Leaf.Raw, why)
	entry := trail.By(id, audit.ActionRevoke)
	entry.Mode, entry.Names, entry.Outcome, entry.Detail = clients.ModeACME, c.Identifiers, trail.Done, "reason "+string(why)
	if err != nil {
		entry.Outcome, entry.Detail = trail.Failed, err.Error()
	}
	r.cfg.Audit.Record(ctx, entry)
	return r.unrevoked(err)
}

// unrevoked converts an error of the CA to the client's answer.
func (r *Relay) unrevoked(err error) error {
	var e *acme.Error
	if !errors.As(err, &e) {
		return err
	}
	p := caProblem(e)
	if e.Kind == acme.Permanent {
		return p
	}
	p.Status = http.StatusServiceUnavailable
	wait := e.RetryAt.Sub(r.cfg.Now())
	if wait > soon {
		return p // its text has the time
	}
	return &acmeserver.Refusal{Problem: p, RetryAfter: max(wait, 5*time.Second)}
}

// requester returns the client that asks for a revocation, and whether the certificate is
// its own. Another client needs a grant for its names. The holder of the certificate's key
// counts as its owner.
func (r *Relay) requester(ctx context.Context, req acmeserver.RevokeRequest) (id clients.Identity, own bool, err error) {
	if req.Account.ID == "" {
		id, err = r.owner(ctx, req.Certificate)
		id.Addr = req.Addr
		return id, true, err
	}
	id, err = r.caller(ctx, req.Account, &req.Addr)
	ownerID, _, _ := strings.Cut(req.Certificate.Owner, ".")
	return id, id.Client.ID == ownerID, err
}

// owner returns the client of a certificate. If it was removed, it has no more than its
// ID: its certificates can still be revoked.
func (r *Relay) owner(ctx context.Context, c acmeserver.Certificate) (clients.Identity, error) {
	clientID, credentialID, _ := strings.Cut(c.Owner, ".")
	client, err := r.cfg.Store.ClientByID(ctx, clientID)
	if errors.Is(err, managed.ErrNotFound) {
		client, err = clients.Client{ID: clientID}, nil
	}
	return clients.Identity{Client: client, CredentialID: credentialID}, err
}
