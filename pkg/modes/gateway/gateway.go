// Package gateway is acme-gateway mode: a client asks, the proxy obtains, the
// answer streams through, and nothing of it is kept: no table, no file, no
// name, token, serial or key in a log. What stays is a count.
//
// Renewal is the client's: nothing here ever starts by itself.
package gateway

import (
	"context"
	"errors"
	"log/slog"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Issuer is the part of issuer.Pool that is needed here.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
	// Check tells what of a request can never be issued, as a *cert.FieldError.
	Check(ctx context.Context, req cert.Request) error
	// Revoke treats a certificate that is revoked already as a success. An empty ca
	// is the default one.
	Revoke(ctx context.Context, ca string, leafDER []byte, reason cert.Reason) error
}

// Config is what the mode needs.
type Config struct {
	Issuer Issuer
	Audit  *audit.Log
	Logger *slog.Logger
}

// Gateway is the mode. It is safe for concurrent use.
type Gateway struct{ cfg Config }

// New returns the mode.
func New(cfg Config) *Gateway { return &Gateway{cfg} }

// Issuance is an allowed request that has not begun yet. Calling it obtains the
// certificate and forgets it. A bundle with a key must be sealed to the
// recipients, which are those that the client has by then. When ctx ends, because
// the client is gone, so does the issuance. The error is an *acme.Error whose text
// is for the client only, or, if the client may not have the certificate any more,
// one of again or Begin.
type Issuance = func(ctx context.Context, emit func(acme.Event), again Again) (*cert.Bundle, []age.Recipient, error)

// Again returns who the caller is now. The error is an *auth.Error if its
// credential is not good any more.
type Again = func(ctx context.Context) (clients.Identity, error)

// Begin decides whether the client may have what it asks for; no order exists
// before the Issuance is called. Errors: *cert.FieldError, *policy.Denied,
// *audit.QuotaExceeded.
func (g *Gateway) Begin(ctx context.Context, id clients.Identity, req cert.Request) (Issuance, error) {
	if err := g.cfg.Issuer.Check(ctx, req); err != nil {
		return nil, err
	}
	if req.CSR == nil {
		if _, err := recipients(id); err != nil {
			return nil, err
		}
	}
	ask := audit.Ask{
		By: id, Action: audit.ActionRequest, Costs: true,
		Request: policy.Request{Mode: clients.ModeGateway, Names: req.Names, KeyType: req.KeyType},
	}
	if err := g.cfg.Audit.Authorize(ctx, ask); err != nil {
		return nil, err
	}
	req.Client = id.Client.ID
	return func(ctx context.Context, emit func(acme.Event), again Again) (*cert.Bundle, []age.Recipient, error) {
		bundle, err := g.cfg.Issuer.Issue(ctx, req, emit)
		if err != nil {
			g.logFailure(ctx, req.Names, err)
			g.returnQuota(ctx, ask, err)
			return nil, nil, err
		}
		to, err := g.stillAllowed(ctx, again, ask, bundle)
		if err != nil {
			g.cfg.Logger.Warn("gateway issuance withheld: its client may not have it any more")
			return nil, nil, err
		}
		g.cfg.Logger.Info("gateway issuance passed through")
		return bundle, to, nil
	}, nil
}

// returnQuota lets a request that came to no order count for nothing: while a CA is
// down, a host's attempts would use up all that its client may have in a day.
func (g *Gateway) returnQuota(ctx context.Context, ask audit.Ask, cause error) {
	var e *acme.Error
	if errors.As(cause, &e) && !e.Ordered {
		if err := g.cfg.Audit.ReturnQuota(ctx, ask); err != nil {
			g.cfg.Logger.Error("a request that came to no order counts against its quota", "error", err)
		}
	}
}

// stillAllowed decides again, since an issuance takes minutes in which a client
// is locked out or a grant is removed. It returns the recipients of today if the
// bundle has a key.
func (g *Gateway) stillAllowed(ctx context.Context, again Again, ask audit.Ask, b *cert.Bundle) ([]age.Recipient, error) {
	id, err := again(ctx)
	if err != nil {
		return nil, err
	}
	ask.By, ask.Costs = id, false
	if err := g.cfg.Audit.Authorize(ctx, ask); err != nil || b.Key == nil {
		return nil, err
	}
	return recipients(id)
}

func recipients(id clients.Identity) ([]age.Recipient, error) {
	if len(id.Client.Recipients) == 0 {
		return nil, &cert.FieldError{Field: "csr", Err: errors.New("missing; this client has no age recipients to which a key could be sealed, so it must make the key itself")}
	}
	return seal.ParseRecipients(id.Client.Recipients)
}

// ErrStopping is the cause of a context that ended because the proxy stops and
// its grace is over.
var ErrStopping = errors.New("the proxy stops")
