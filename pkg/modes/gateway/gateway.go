// Package gateway implements acme-gateway mode: the proxy obtains the certificate
// that a client requests, streams the answer to it and stores nothing. No table, file
// or log contains a name, token, serial number or key. Only a count remains.
//
// The client decides when to renew. This package never starts an issuance on its own.
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

// Issuer is the part of issuer.Pool that this package needs.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
	// Check returns a *cert.FieldError for a request that can never be issued.
	Check(ctx context.Context, req cert.Request) error
	// Revoke treats a certificate that is revoked already as a success. An empty ca
	// is the default one.
	Revoke(ctx context.Context, ca string, leafDER []byte, reason cert.Reason) error
}

// Config holds the dependencies of the mode.
type Config struct {
	Issuer Issuer
	Audit  *audit.Log
	Logger *slog.Logger
}

// Gateway implements the mode. It is safe for concurrent use.
type Gateway struct{ cfg Config }

// New returns the mode.
func New(cfg Config) *Gateway { return &Gateway{cfg} }

// Issuance obtains the certificate of an allowed request and stores nothing. The
// caller must seal a bundle with a key to the returned recipients, which the client
// has when the issuance ends. The issuance ends when ctx does, because the client
// disconnected. The error is an *acme.Error whose text only the client may read. If
// the client may not have the certificate any more, it is an error of again or Begin.
type Issuance = func(ctx context.Context, emit func(acme.Event), again Again) (*cert.Bundle, []age.Recipient, error)

// Again returns the caller's present identity. The error is an *auth.Error if its
// credential is no longer valid.
type Again = func(ctx context.Context) (clients.Identity, error)

// Begin decides whether the client may have the certificate. No order exists before
// the Issuance is called. Errors: *cert.FieldError, *policy.Denied,
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
		By: id, Action: audit.ActionRequest, Costs: true, At: g.cfg.Audit.Now(),
		Request: policy.Request{Mode: clients.ModeGateway, Names: req.Names, KeyType: req.KeyType, Profile: req.Profile},
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
		to, err := g.authorizeAgain(ctx, again, ask, bundle)
		if err != nil {
			g.cfg.Logger.Warn("gateway issuance withheld: its client may not have it any more")
			return nil, nil, err
		}
		g.cfg.Logger.Info("gateway issuance passed through")
		return bundle, to, nil
	}, nil
}

// returnQuota returns the quota of a request that led to no order. Otherwise a host's
// attempts would use up its client's daily quota while a CA is down.
func (g *Gateway) returnQuota(ctx context.Context, ask audit.Ask, cause error) {
	var e *acme.Error
	if errors.As(cause, &e) && !e.Ordered {
		if err := g.cfg.Audit.ReturnQuota(ctx, ask); err != nil {
			g.cfg.Logger.Error("a request that came to no order counts against its quota", "error", err)
		}
	}
}

// authorizeAgain repeats the decision, since a client may be locked out or lose a
// grant during an issuance. It returns the client's present recipients if the bundle
// has a key.
func (g *Gateway) authorizeAgain(ctx context.Context, again Again, ask audit.Ask, b *cert.Bundle) ([]age.Recipient, error) {
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
		return nil, &cert.FieldError{Field: "csr", Err: errors.New("missing; this client has no age recipients to which a key could be sealed, so it must generate the key itself")}
	}
	return seal.ParseRecipients(id.Client.Recipients)
}

// ErrStopping is the cause of a context that ended because the proxy stops and its
// grace period is over.
var ErrStopping = errors.New("the proxy stops")
