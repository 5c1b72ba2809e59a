package agent

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// CA is the part of issuer.Pool that is needed to revoke. ca is the directory URL
// of the certificate's issuer; empty means the default CA. Errors are *acme.Error.
type CA interface {
	// HasCA reports whether that CA can be asked.
	HasCA(ca string) bool
	// Revoke treats a certificate that is revoked already as a success.
	Revoke(ctx context.Context, ca string, leafDER []byte, reason cert.Reason) error
	// Certificate reads an issued certificate again.
	Certificate(ctx context.Context, ca, certURL string) (*x509.Certificate, error)
}

// revokeTimeout bounds all requests to the CA for one revocation.
const revokeTimeout = 25 * time.Second

// Revoke revokes the current certificate of one of the caller's rows. No proof of
// the key is needed. Another certificate is obtained at DueAt of the returned row.
// With forget, the row is deleted, and its former state is returned. Revoke may be
// repeated. Errors: managed.ErrNotFound if no row has that certificate,
// *audit.QuotaExceeded, *audit.TooSoon, *acme.Error.
func (a *Agent) Revoke(ctx context.Context, id clients.Identity, rev cert.Revocation, forget bool) (managed.Certificate, error) {
	m, err := a.cfg.Store.ManagedByNames(ctx, id.Client.ID, clients.ModeAgent, rev.Names)
	if err != nil {
		return m, err
	}
	if m.Serial != rev.Serial() || !m.NotAfter.Equal(rev.Leaf.NotAfter) {
		return m, managed.ErrNotFound
	}
	// From here on, a client that disconnects does not interrupt the revocation.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	if a.isRevocable(m) {
		if err := a.authorizeRevocation(ctx, id, m); err != nil {
			return m, err
		}
		if err := a.revoke(ctx, trail.By(id, audit.ActionRevoke), m, m.CA, rev.Leaf, rev.Reason); err != nil {
			return m, err
		}
	}
	if forget {
		return m, a.deleteRevoked(ctx, trail.By(id, audit.ActionRevoke), m, m.Serial, rev.Reason)
	}
	return a.replace(ctx, m, rev)
}

// isRevocable reports whether a row has a valid certificate that is not revoked.
func (a *Agent) isRevocable(m managed.Certificate) bool {
	return m.Serial != "" && m.RevokedAt.IsZero() && a.cfg.Now().Before(m.NotAfter)
}

func (a *Agent) authorizeRevocation(ctx context.Context, id clients.Identity, m managed.Certificate) error {
	return a.cfg.Audit.Authorize(ctx, audit.Ask{
		By: id, Action: audit.ActionRevoke, Own: true, Costs: true,
		Request: policy.Request{Mode: clients.ModeAgent, Names: m.Names, Purpose: policy.Revocation},
	})
}

// replace makes a row due after its certificate was revoked.
func (a *Agent) replace(ctx context.Context, m managed.Certificate, rev cert.Revocation) (managed.Certificate, error) {
	at, err := a.replaceAt(ctx, m)
	if err != nil {
		return m, err
	}
	err = a.cfg.Store.RevokeManaged(ctx, m.ID, m.Serial, at, deadCSR(m, rev))
	if err != nil && !errors.Is(err, managed.ErrLost) { // lost: the row has a newer certificate
		return m, err
	}
	a.cfg.Wake()
	now, err := a.cfg.Store.ManagedByID(ctx, m.ID)
	if errors.Is(err, managed.ErrNotFound) {
		return m, nil // it was deleted meanwhile
	}
	return now, err
}

// afterFailure is the pause between a failed attempt and the next one after a
// revocation.
const afterFailure = 15 * time.Minute

// replaceAt returns when to obtain another certificate, which is when the client may
// request a renewal. An earlier time would let revocations use up the CA's limits.
func (a *Agent) replaceAt(ctx context.Context, m managed.Certificate) (time.Time, error) {
	asked, err := a.cfg.Store.AskedAt(ctx, m.ClientID, m.Names)
	if err != nil {
		return asked, err
	}
	_, at, err := a.nextAttempt(ctx, m, asked)
	if m.IsFailing() {
		at = later(ignoreFuture(m.LastErrorAt, a.cfg.Now()), ignoreFuture(asked, a.cfg.Now())).Add(afterFailure)
	}
	if now := a.cfg.Now(); at.Before(now) {
		at = now
	}
	return at, err
}

// deadCSR returns the row's CSR if its key is compromised. The client must then send
// another CSR before the next certificate.
func deadCSR(m managed.Certificate, rev cert.Revocation) []byte {
	if len(m.CSR) == 0 || rev.Reason != cert.KeyCompromise {
		return nil
	}
	csr, err := cert.ParseCSR(m.CSR)
	if err != nil || !cert.SameKey(csr.Public, rev.Leaf.PublicKey) {
		return nil // it has sent another one already
	}
	return m.CSR
}

// awaitsCSR reports whether the client must send another CSR first.
func awaitsCSR(m managed.Certificate) bool { return !m.RevokedAt.IsZero() && m.DueAt.IsZero() }

// RevokeAndDelete revokes the current certificate of one of the client's own rows,
// then deletes the row. It deletes nothing if the revocation fails. Unless shared is
// set, it revokes nothing if the client has several hosts. Errors: *policy.Denied,
// *audit.QuotaExceeded, *audit.TooSoon, managed.ErrNotFound, managed.ErrShared,
// *acme.Error.
func (a *Agent) RevokeAndDelete(ctx context.Context, id clients.Identity, certID string, reason cert.Reason, shared bool) error {
	m, err := a.Get(ctx, id, certID)
	if err != nil {
		return err
	}
	if !shared {
		switch hosts, err := a.cfg.Store.Hosts(ctx, m.ClientID); {
		case err != nil:
			return err
		case hosts > 1:
			return managed.ErrShared
		}
	}
	if a.isRevocable(m) {
		if err := a.authorizeRevocation(ctx, id, m); err != nil {
			return err
		}
	}
	return a.revokeAndDelete(ctx, trail.By(id, audit.ActionRevoke), m, reason)
}

// RevokeFor revokes and deletes as RevokeAndDelete does, for the administrator. m is
// a row of the client.
func (a *Agent) RevokeFor(ctx context.Context, client clients.Client, m managed.Certificate, reason cert.Reason) error {
	return a.revokeAndDelete(ctx, byAdmin(client), m, reason)
}

func (a *Agent) revokeAndDelete(ctx context.Context, who trail.Entry, m managed.Certificate, reason cert.Reason) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), revokeTimeout)
	defer cancel()
	serial, err := a.revokeCurrent(ctx, who, m, reason)
	if err != nil {
		return err
	}
	return a.deleteRevoked(ctx, who, m, serial, reason)
}

// revokeCurrent revokes the row's current certificate, if it is valid, and returns
// its serial number.
func (a *Agent) revokeCurrent(ctx context.Context, who trail.Entry, m managed.Certificate, reason cert.Reason) (serial string, err error) {
	if !a.isRevocable(m) {
		return m.Serial, nil
	}
	leaf, ca, err := a.currentLeaf(ctx, m)
	if err != nil {
		return "", err
	}
	return hex.EncodeToString(leaf.SerialNumber.Bytes()), a.revoke(ctx, who, m, ca, leaf, reason)
}

// currentLeaf reads the row's current certificate from the CA, because the stored bundle
// is sealed to the client.
func (a *Agent) currentLeaf(ctx context.Context, m managed.Certificate) (leaf *x509.Certificate, ca string, err error) {
	b, err := a.cfg.Store.BundleFor(ctx, m.ID)
	if err != nil {
		return nil, "", err
	}
	if b.CertificateURL == "" {
		return nil, "", &acme.Error{Kind: acme.Permanent, Detail: "an older version of this program obtained the certificate and did not keep where the CA has it: revoke it where it is in use (acmeproxy remote revoke), or renew it and delete it then"}
	}
	if err := a.checkCA(b.CA); err != nil {
		return nil, "", err
	}
	leaf, err = a.cfg.CA.Certificate(ctx, b.CA, b.CertificateURL)
	if err != nil {
		var e *acme.Error
		if errors.As(err, &e) && e.Kind == acme.Permanent {
			e.Detail += "; the CA does not show it any more, perhaps because it is revoked already: then it can be deleted without that"
		}
		return nil, "", err
	}
	if hex.EncodeToString(leaf.SerialNumber.Bytes()) != b.Serial {
		return nil, "", &acme.Error{Kind: acme.Permanent, Detail: "the CA has another certificate at the URL that was kept, and it was not revoked; revoke the right one where it is in use (acmeproxy remote revoke)"}
	}
	return leaf, b.CA, nil
}

// deleteRevoked deletes a row after its certificate with that serial number was
// revoked. If the row was renewed meanwhile, the new certificate is revoked, too.
func (a *Agent) deleteRevoked(ctx context.Context, who trail.Entry, m managed.Certificate, serial string, reason cert.Reason) error {
	for {
		err := a.cfg.Store.DeleteRevoked(ctx, m.ID, serial)
		switch {
		case err == nil:
			who.Action, who.Mode, who.Names, who.Outcome, who.Detail = actionCertificate, m.Mode, m.Names, trail.Done, "no longer managed"
			a.cfg.Audit.Record(ctx, who)
			a.wakeAll(m.ID)
			return nil
		case errors.Is(err, managed.ErrNotFound):
			return nil // it was deleted meanwhile
		case !errors.Is(err, managed.ErrLost):
			return err
		}
		if m, err = a.cfg.Store.ManagedByID(ctx, m.ID); err != nil {
			return err
		}
		if serial, err = a.revokeCurrent(ctx, who, m, reason); err != nil {
			return err
		}
	}
}

// checkCA returns an error if the CA that issued a certificate is not configured any
// more.
func (a *Agent) checkCA(ca string) error {
	if ca == "" || a.cfg.CA.HasCA(ca) {
		return nil
	}
	return &acme.Error{Kind: acme.Permanent, Detail: fmt.Sprintf("the proxy no longer uses the CA that issued the certificate, %s; set it again to revoke there", acme.Shorten(ca))}
}

// revoke revokes a certificate of the row at the CA that issued it, and records
// the outcome.
func (a *Agent) revoke(ctx context.Context, who trail.Entry, m managed.Certificate, ca string, leaf *x509.Certificate, reason cert.Reason) error {
	who.Action, who.Mode, who.Names = audit.ActionRevoke, m.Mode, m.Names
	who.Outcome, who.Detail = trail.Done, fmt.Sprintf("serial %s, %s", hex.EncodeToString(leaf.SerialNumber.Bytes()), reason)
	err := a.checkCA(ca)
	if err == nil {
		err = a.cfg.CA.Revoke(ctx, ca, leaf.Raw, reason)
	}
	if err != nil {
		who.Outcome, who.Detail = trail.Failed, err.Error()
	}
	a.cfg.Audit.Record(ctx, who)
	return err
}
