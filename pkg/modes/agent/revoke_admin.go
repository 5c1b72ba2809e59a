package agent

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Revocation is a revocation by the administrator.
type Revocation struct {
	Client clients.Client    // owner of the certificate; the zero Client: the proxy itself
	Leaf   *x509.Certificate // the current certificate; nil: it is read from the CA
	Reason cert.Reason
	Forget bool // delete the row instead of replacing its certificate
}

// RevokeByAdmin revokes the current certificate of any row, also of one of the proxy's
// own host, as Revoke does. The request is stored first. Unless the CA refuses it, it
// stays until its result is stored, and FinishRevocations repeats it. RevokeByAdmin
// returns managed.ErrNoCertificate if there is no valid certificate and the row is not
// to be deleted, and managed.ErrStale if m is not the present row.
func (a *Agent) RevokeByAdmin(ctx context.Context, m managed.Certificate, r Revocation) (managed.Certificate, error) {
	who := byAdmin(r.Client)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	if !a.isRevocable(m) {
		if !r.Forget {
			return m, managed.ErrNoCertificate
		}
		return m, a.deleteRevoked(ctx, who, m, m.Serial, r.Reason)
	}
	leaf, ca, err := r.Leaf, m.CA, error(nil)
	if leaf == nil {
		leaf, ca, err = a.currentLeaf(ctx, m)
	}
	if err == nil && hex.EncodeToString(leaf.SerialNumber.Bytes()) != m.Serial {
		err = managed.ErrStale // it was renewed meanwhile
	}
	if err != nil {
		return m, err
	}
	want := managed.WantedRevocation{
		ManagedID: m.ID, Serial: m.Serial, ClientID: m.ClientID, CA: ca, Leaf: leaf.Raw, Reason: string(r.Reason), Forget: r.Forget,
	}
	if err := a.cfg.Store.WantRevocation(ctx, want); err != nil {
		return m, err
	}
	want.WantedAt = a.cfg.Now()
	return a.finishRevocation(ctx, who, m, leaf, want)
}

func byAdmin(client clients.Client) trail.Entry {
	return trail.Entry{ClientID: client.ID, ClientName: client.Name, Addr: trail.Admin}
}

// finishRevocation carries out a stored revocation. m is the present row, or has no ID
// if it was deleted. Each step may be repeated after a crash.
func (a *Agent) finishRevocation(ctx context.Context, who trail.Entry, m managed.Certificate, leaf *x509.Certificate, want managed.WantedRevocation) (now managed.Certificate, err error) {
	now, reason := m, cert.Reason(want.Reason)
	if err := a.revoke(ctx, who, m, want.CA, leaf, reason); err != nil {
		return m, a.postponeRevocation(ctx, want, err)
	}
	what := "recorded as revoked"
	switch {
	case m.ID == "":
	case want.Forget:
		what, err = "deleted", a.deleteRevoked(ctx, who, m, want.Serial, reason)
	case m.Serial == want.Serial:
		if now, err = a.replace(ctx, m, cert.Revocation{Leaf: leaf, Names: m.Names, Reason: reason}); err == nil {
			now = a.replaceNow(ctx, now)
		}
	}
	if err == nil {
		err = a.cfg.Store.EndRevocation(ctx, want.ManagedID, want.Serial)
	}
	return now, revokedButNot(what, err)
}

// Replacement returns the limits of orders that replace certificates which the
// administrator revoked: one more than of renewals, because services use them.
func Replacement() managed.Try {
	try := renewal.ByPerson
	try.Pause.Spare++
	return try
}

// replaceNow makes a row with a revoked certificate due now, if that is within the limits.
// Otherwise it is replaced at its time.
func (a *Agent) replaceNow(ctx context.Context, m managed.Certificate) managed.Certificate {
	if m.RevokedAt.IsZero() { // it was replaced or deleted meanwhile
		return m
	}
	now, err := a.cfg.Store.TryNow(ctx, m.ID, Replacement())
	if err != nil {
		return m
	}
	a.cfg.Wake()
	return now
}

// revokedButNot adds to a failure that the CA has revoked the certificate already.
func revokedButNot(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("the certificate IS revoked, but not %s yet, which the proxy repeats: %w", what, err)
}

// The pause before a revocation is repeated is as long as it has been wanted, within
// these bounds.
const (
	minRevokePause = 10 * time.Minute
	maxRevokePause = 24 * time.Hour
)

// postponeRevocation handles the failure to ask the CA. A revocation that the CA refuses
// is not repeated, nor one whose certificate has expired. After any other failure, the CA
// may have revoked the certificate.
func (a *Agent) postponeRevocation(ctx context.Context, want managed.WantedRevocation, cause error) error {
	var e *acme.Error
	isKnown := errors.As(cause, &e)
	if isKnown && e.Kind == acme.Permanent {
		return errors.Join(cause, a.cfg.Store.EndRevocation(ctx, want.ManagedID, want.Serial))
	}
	now := a.cfg.Now()
	next := now.Add(min(max(now.Sub(want.WantedAt), minRevokePause), maxRevokePause))
	if isKnown {
		next = later(next, ignoreLate(e.RetryAt, now))
	}
	if err := a.cfg.Store.PostponeRevocation(ctx, want.ManagedID, want.Serial, next); err != nil {
		return errors.Join(cause, err) // it is due, so it is repeated earlier
	}
	if !isKnown {
		return cause
	}
	told := *e
	told.Detail += "; whether the certificate is revoked is not known, so the proxy asks the CA again"
	return &told
}

// ignoreLate returns t, or the zero time if it is too late for a stored revocation.
func ignoreLate(t, now time.Time) time.Time {
	if t.After(now.Add(maxRevokePause)) {
		return time.Time{}
	}
	return t
}

// maxRevocations limits the stored revocations that FinishRevocations carries out.
const maxRevocations = 100

// FinishRevocations carries out stored revocations that are due: the program was killed,
// the CA could not be asked, or the result could not be stored. It returns the number of
// those that have ended. A failure does not prevent the others.
func (a *Agent) FinishRevocations(ctx context.Context) (n int, err error) {
	all, err := a.cfg.Store.WantedRevocations(ctx, maxRevocations)
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, want := range all {
		if ctx.Err() != nil {
			break // stopping; it stays due
		}
		if err := a.finishStored(ctx, want); err != nil {
			errs = append(errs, fmt.Errorf("certificate %s: %w", want.Serial, err))
			continue
		}
		n++
	}
	return n, errors.Join(errs...)
}

// finishStored carries out one stored revocation.
func (a *Agent) finishStored(ctx context.Context, want managed.WantedRevocation) error {
	ctx, cancel := context.WithTimeout(ctx, revokeTimeout)
	defer cancel()
	leaf, err := x509.ParseCertificate(want.Leaf)
	if err != nil || !a.cfg.Now().Before(leaf.NotAfter) { // expired certificates need no revocation
		return errors.Join(err, a.cfg.Store.EndRevocation(ctx, want.ManagedID, want.Serial))
	}
	client := clients.Client{}
	if want.ClientID != "" {
		client, err = a.cfg.Store.ClientByID(ctx, want.ClientID)
		if errors.Is(err, managed.ErrNotFound) {
			client, err = clients.Client{ID: want.ClientID}, nil
		}
	}
	if err != nil {
		return err
	}
	m, err := a.cfg.Store.ManagedByID(ctx, want.ManagedID)
	if errors.Is(err, managed.ErrNotFound) {
		names, _ := cert.LeafNames(leaf) // for the audit trail
		m, err = managed.Certificate{Names: names}, nil
	}
	if err != nil {
		return err
	}
	_, err = a.finishRevocation(ctx, byAdmin(client), m, leaf, want)
	return err
}
