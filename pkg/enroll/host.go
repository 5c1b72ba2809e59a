package enroll

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// The actions of hosts in the audit trail.
const (
	ActionEnroll = "enroll"
	ActionRekey  = "client key"
)

// EnrollRequest is a host's request to become one of a client's hosts.
type EnrollRequest struct {
	Secret []byte // of the enrolment token
	// Key is the auth.SPKIPin of the key that the handshake of the host's connection
	// proved, so a stolen request alone is useless.
	Key        [32]byte
	Recipients []string
	Addr       netip.Addr // of the host
}

// Enroll spends an enrolment token on the TLS key of a host, and adds its
// recipients to those of the client.
//
// An unknown caller can send the request. So the token is looked up before anything
// is computed with the recipients, and the host's network is checked before any
// fault of them is reported.
//
// The errors are ErrToken, *policy.Denied, *cert.FieldError for recipients,
// ErrOtherClient and managed.ErrDisabled. An error leaves the token unspent.
func (r *Registrar) Enroll(ctx context.Context, req EnrollRequest) (clients.Client, error) {
	verifier := sha256.Sum256(req.Secret)
	c, err := r.cfg.Store.EnrollingClient(ctx, verifier[:], req.Key[:])
	if err != nil {
		return clients.Client{}, r.enrollError(ctx, req, c, err)
	}
	id := clients.Identity{Client: c, Via: clients.Enrolment, Addr: req.Addr}
	if err := r.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: ActionEnroll}); err != nil {
		return clients.Client{}, err
	}
	if err := seal.CheckNew(req.Recipients, c.Recipients); err != nil {
		return clients.Client{}, &cert.FieldError{Field: "recipients", Err: err}
	}
	key := clients.Credential{Kind: clients.TLSKey, Verifier: req.Key[:]}
	c, err = r.cfg.Store.Enroll(ctx, verifier[:], key, req.Recipients)
	if err != nil {
		return clients.Client{}, r.enrollError(ctx, req, c, err)
	}
	id.Client = c
	r.recordHost(ctx, id, ActionEnroll, trail.Done, "")
	return c, nil
}

// enrollError records a refusal by the store and returns the error for the caller.
// The client is set if the error is managed.ErrDisabled.
func (r *Registrar) enrollError(ctx context.Context, req EnrollRequest, c clients.Client, err error) error {
	switch {
	case errors.Is(err, managed.ErrNotFound):
		r.cfg.Audit.Refuse(ctx, req.Addr, ActionEnroll, "unknown, expired or used token")
		return ErrToken
	case errors.Is(err, managed.ErrConflict):
		r.cfg.Audit.Refuse(ctx, req.Addr, ActionEnroll, "the TLS key belongs to another client")
		return ErrOtherClient
	case errors.Is(err, managed.ErrTooMany):
		return errTooManyRecipients()
	case errors.Is(err, managed.ErrDisabled):
		r.cfg.Audit.RefuseCaller(ctx, &auth.Error{Reason: auth.ReasonDisabled, Addr: req.Addr, ClientID: c.ID, ClientName: c.Name})
	}
	return err
}

func errTooManyRecipients() error {
	return &cert.FieldError{Field: "recipients", Err: errors.New("too many, with those that the client has already")}
}

// RekeyRequest is a host's request to replace its TLS key.
type RekeyRequest struct {
	// Old is the auth.SPKIPin of the key that the handshake of the host's connection
	// proved.
	Old [32]byte
	// PublicKey and Proof are those of auth.ProveKey.
	PublicKey, Proof []byte
	// Recipients are added to those of the client, and Retire are removed from them.
	Recipients, Retire []string
}

// Rekey replaces the caller's TLS key. The old key is refused from then on. A
// signature by the new key proves its possession.
//
// The errors are ErrNotTLSKey, *policy.Denied, *KeyError, *cert.FieldError for
// recipients and retire, *audit.TooSoon, ErrKeyTaken, and *auth.Error if the old key
// was replaced or removed meanwhile.
func (r *Registrar) Rekey(ctx context.Context, id clients.Identity, req RekeyRequest) (clients.Client, error) {
	if id.Via != clients.TLSKey {
		return clients.Client{}, ErrNotTLSKey
	}
	if err := r.cfg.Audit.Authorize(ctx, audit.Ask{By: id, Action: ActionRekey}); err != nil {
		return clients.Client{}, err
	}
	pin, err := auth.CheckKeyProof(req.PublicKey, req.Proof, req.Old)
	if err != nil {
		r.recordHost(ctx, id, ActionRekey, trail.Refused, "the proof of the new key is wrong")
		return clients.Client{}, &KeyError{err}
	}
	if err := seal.CheckNew(req.Recipients, id.Client.Recipients); err != nil {
		return clients.Client{}, &cert.FieldError{Field: "recipients", Err: err}
	}
	if err := r.cfg.Audit.Pace(id); err != nil {
		return clients.Client{}, err
	}
	c, err := r.cfg.Store.RollKey(ctx, clients.Rollover{
		CredentialID: id.CredentialID, Old: req.Old[:], New: pin[:], Add: req.Recipients, Retire: req.Retire,
	})
	if err != nil {
		return clients.Client{}, r.rekeyError(ctx, id, err)
	}
	r.recordHost(ctx, id, ActionRekey, trail.Done, "")
	return c, nil
}

// rekeyError records a refusal by the store and returns the error for the caller.
func (r *Registrar) rekeyError(ctx context.Context, id clients.Identity, err error) error {
	switch {
	case errors.Is(err, managed.ErrNotFound): // since the caller authenticated
		return &auth.Error{Reason: auth.ReasonUnknown, Addr: id.Addr}
	case errors.Is(err, managed.ErrConflict):
		r.recordHost(ctx, id, ActionRekey, trail.Refused, "the new TLS key is registered already")
		return ErrKeyTaken
	case errors.Is(err, managed.ErrTooMany):
		return errTooManyRecipients()
	case errors.Is(err, managed.ErrRecipients):
		return &cert.FieldError{Field: "retire", Err: errors.New("contains a key that is not a recipient of the client, or contains all of its recipients")}
	}
	return err
}

// recordHost writes a host's action to the audit trail.
func (r *Registrar) recordHost(ctx context.Context, id clients.Identity, action, outcome, detail string) {
	entry := trail.By(id, action)
	entry.Outcome, entry.Detail = outcome, detail
	r.cfg.Audit.Record(ctx, entry)
}
