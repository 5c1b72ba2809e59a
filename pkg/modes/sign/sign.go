// Package sign obtains certificates for CSRs by the rules of an ACMEMS configuration. The
// client renews; this package never starts an issuance on its own.
//
// Each [auth] block counts as a client: in the audit trail, for its share of the places and
// for its rate. It has no row in the store, so it has no quota.
//
//	door := sign.New(sign.Config{Rules: rules, Issuer: issuerOf, Audit: trail, Logger: logger})
//	attempt, err := door.Begin(ctx, caller) // before the body is read
//	chain, err := attempt(ctx, body)
package sign

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Issuer is the part of issuer.Pool that this package needs. Its errors are *acme.Error.
type Issuer interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
}

// Config holds the dependencies of a Door.
type Config struct {
	// Rules decide who may have what.
	Rules *acmems.Config
	// Issuer returns the issuer that proves names as a verification of the rules says. The
	// caller calls release after its last use, because settings may replace an issuer.
	Issuer func(verification acmems.Verification) (is Issuer, release func())
	// OwnNames returns the names of the proxy itself, for which no block gets a certificate:
	// its holder could pose as the proxy. If nil, it has none.
	OwnNames func() []string
	Audit    *audit.Log
	// Logger logs what the callers may not read. It must be set.
	Logger *slog.Logger
	// Timeout of an issuance. If 0, it is 90 seconds as in ACMEMS.
	Timeout time.Duration
}

// Door decides about requests and obtains certificates. It may be used concurrently.
type Door struct {
	cfg     Config
	flights flights
}

// New returns a Door.
func New(cfg Config) *Door {
	cfg.Timeout = cmp.Or(cfg.Timeout, 90*time.Second)
	return &Door{cfg: cfg}
}

// Close waits for the issuances in flight, which end early when ctx does.
func (d *Door) Close(ctx context.Context) { d.flights.close(ctx) }

// Attempt returns the chain for the CSR in body, in PEM as ACMEMS sends it: an empty line
// between the certificates and no line feed at the end. The issuance continues if ctx ends,
// and the next attempt with the same body joins it.
//
// Errors: *cert.FieldError, *policy.Denied, *audit.TooSoon, *acme.Error, and faults of the
// store.
type Attempt = func(ctx context.Context, body []byte) (chain []byte, err error)

// Begin decides whether the caller can have anything, before its body is read. The error
// is a *policy.Denied.
func (d *Door) Begin(ctx context.Context, by acmems.Caller) (Attempt, error) {
	possible, err := d.cfg.Rules.Possible(by)
	if err != nil {
		return nil, d.deny(ctx, by, nil, err)
	}
	return func(ctx context.Context, body []byte) ([]byte, error) {
		return d.sign(ctx, by, possible, body)
	}, nil
}

func (d *Door) sign(ctx context.Context, by acmems.Caller, possible []*acmems.Block, body []byte) ([]byte, error) {
	accepted, err := by.Accepted(possible, body)
	if err != nil {
		return nil, d.deny(ctx, by, nil, err)
	}
	csr, err := cert.ParseCSR(body)
	var content *cert.ContentError
	switch {
	case errors.As(err, &content):
		return nil, d.deny(ctx, by, nil, err)
	case err != nil:
		return nil, &cert.FieldError{Field: "csr", Err: err}
	}
	block, err := acmems.Choose(accepted, csr.Names)
	if err != nil {
		return nil, d.deny(ctx, by, csr.Names, err)
	}
	if err := d.checkOwn(csr.Names); err != nil {
		return nil, d.deny(ctx, by, csr.Names, err)
	}
	store := newCache(block.Storage)
	if chain := d.cached(store, body, csr); chain != nil {
		return chain, nil
	}
	return d.flights.join(ctx, flightKey(block, body), func(ctx context.Context) ([]byte, error) {
		if chain := d.cached(store, body, csr); chain != nil { // by a flight that has just ended
			return chain, nil
		}
		ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
		defer cancel()
		chain, err := d.issue(ctx, identity(block, by), block, csr)
		if err != nil {
			return nil, err
		}
		if err := store.put(body, chain); err != nil {
			d.cfg.Logger.Error("a signed certificate is not cached", "storage", block.Storage.Name, "error", err)
		}
		return chain, nil
	})
}

func (d *Door) checkOwn(names cert.Names) error {
	if d.cfg.OwnNames == nil {
		return nil
	}
	for _, own := range d.cfg.OwnNames() {
		if slices.Contains(names, own) {
			why := own + " is the name of the proxy itself, which no block may have; leave it out"
			return &acmems.Denied{Reason: why, ForCaller: why, Ungranted: []string{own}}
		}
	}
	return nil
}

// flightKey is equal for requests that share an issuance.
func flightKey(b *acmems.Block, body []byte) string {
	return fmt.Sprintf("%x %s", sha256.Sum256(body), b.Name)
}

// cached returns the chain of an earlier issuance, or nil.
func (d *Door) cached(c cache, body []byte, csr *cert.CSR) []byte {
	chain, err := c.get(body, csr, d.cfg.Audit.Now())
	if err != nil {
		d.cfg.Logger.Warn("an entry of the cache cannot be used and is replaced", "error", err)
	}
	return chain
}

// identity returns the identity of a block. No client that an administrator adds has such
// a name.
func identity(b *acmems.Block, by acmems.Caller) clients.Identity {
	name := "sign:" + b.Name
	return clients.Identity{Client: clients.Client{ID: name, Name: name}, Addr: by.Addr}
}

func (d *Door) issue(ctx context.Context, id clients.Identity, b *acmems.Block, csr *cert.CSR) ([]byte, error) {
	ask := audit.Ask{
		By: id, Action: audit.ActionRequest, Own: true, Costs: true, Unmetered: true,
		Request: policy.Request{Mode: clients.ModeSign, Names: csr.Names, KeyType: csr.KeyType},
	}
	if err := d.cfg.Audit.Authorize(ctx, ask); err != nil {
		return nil, err
	}
	is, release := d.cfg.Issuer(b.Verification)
	defer release()
	bundle, err := is.Issue(ctx, cert.Request{Names: csr.Names, CSR: csr.DER, KeyType: csr.KeyType, Client: id.Client.ID}, nil)
	e := trail.By(id, "certificate")
	e.Mode, e.Names = clients.ModeSign, csr.Names
	if err != nil {
		e.Outcome, e.Detail = trail.Failed, err.Error()
		d.cfg.Audit.Record(ctx, e)
		d.cfg.Logger.Warn("a CSR is not signed", "block", b.Name, "names", csr.Names, "error", err)
		return nil, err
	}
	e.Outcome, e.Detail = trail.Done, "serial "+bundle.Serial()
	d.cfg.Audit.Record(ctx, e)
	d.cfg.Logger.Info("a CSR is signed", "block", b.Name, "names", csr.Names, "serial", bundle.Serial())
	return encode(bundle), nil
}

// encode returns the chain as ACMEMS does.
func encode(b *cert.Bundle) []byte {
	const end = "-----END CERTIFICATE-----\n"
	chain := bytes.ReplaceAll(b.FullchainPEM(), []byte(end), []byte(end+"\n"))
	return bytes.TrimRight(chain, "\n")
}

// deny records a refusal, and returns it without the names of blocks.
func (d *Door) deny(ctx context.Context, by acmems.Caller, names cert.Names, cause error) error {
	e := trail.By(clients.Identity{Addr: by.Addr}, audit.ActionRequest)
	e.Mode, e.Names, e.Outcome, e.Detail = clients.ModeSign, names, trail.Refused, cause.Error()
	d.cfg.Audit.Record(ctx, e)
	var refused *acmems.Denied
	if !errors.As(cause, &refused) {
		return &policy.Denied{Field: "csr", Reason: cause.Error()}
	}
	field := "source"
	if names != nil {
		field = "names"
	}
	return &policy.Denied{Field: field, Reason: refused.ForCaller, Ungranted: refused.Ungranted}
}
