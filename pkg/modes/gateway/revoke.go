package gateway

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// notProven is the text for all faults of a proof, so that it does not reveal which
// certificates exist.
const notProven = "missing, or no signature by this certificate's key that it is to be revoked for this reason; only the holder of the key may revoke a certificate that the proxy does not manage for this client"

// Revoke revokes a certificate that the proxy does not manage. The caller must have
// proven that it holds the key, and must be granted the names. Nothing is stored.
// Errors: *policy.Denied, *audit.QuotaExceeded, *audit.TooSoon, *acme.Error.
func (g *Gateway) Revoke(ctx context.Context, id clients.Identity, rev cert.Revocation) error {
	ask := policy.Request{Mode: clients.ModeGateway, Names: rev.Names, Purpose: policy.Revocation}
	if !rev.Proven() {
		return g.refuse(ctx, id, ask)
	}
	if err := g.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: audit.ActionRevoke, Request: ask, Costs: true}); err != nil {
		return err
	}
	if rev.Expired(time.Now()) {
		return nil
	}
	// A client that disconnects now must get a definite answer when it asks again.
	if err := g.cfg.Issuer.Revoke(context.WithoutCancel(ctx), "", rev.Leaf.Raw, rev.Reason); err != nil {
		g.logCause("gateway revocation failed", rev.Names, err)
		return err
	}
	g.cfg.Logger.Info("gateway revocation passed through")
	return nil
}

// refuse records a refusal and returns it. As in every refusal, the entry has only
// the names that are not granted.
func (g *Gateway) refuse(ctx context.Context, id clients.Identity, ask policy.Request) error {
	refusal := &policy.Denied{Field: "proof", Reason: notProven}
	entry := trail.By(id, audit.ActionRevoke)
	entry.Mode, entry.Outcome, entry.Detail = clients.ModeGateway, trail.Refused, "no proof of the certificate's key"
	var denied *policy.Denied
	if _, err := policy.Decide(id, ask); errors.As(err, &denied) {
		entry.Names = denied.Ungranted
	}
	g.cfg.Audit.Record(ctx, entry)
	return refusal
}
