package relay

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Records holds what the Server stores about the clients of the relay. Owners have the
// form CLIENT.CREDENTIAL. Errors are those of acmeserver.Storage.
type Records interface {
	LiveCertificates(ctx context.Context, ownerPrefix, after string, now time.Time, limit int) ([]acmeserver.Certificate, error)
	CertificateByID(ctx context.Context, id string) (acmeserver.Certificate, error)
	SetRevoked(ctx context.Context, fingerprint string, at time.Time, reason int) error
	DeactivateAccounts(ctx context.Context, ownerPrefix string) error
}

// ClientCertificates returns up to limit certificates of a client that are neither expired
// nor revoked, and whose IDs follow after. They have ID, Names and Serial only.
func (r *Relay) ClientCertificates(ctx context.Context, clientID, after string, limit int) ([]managed.Certificate, error) {
	all, err := r.cfg.Records.LiveCertificates(ctx, clientID+".", after, r.cfg.Now(), limit)
	if err != nil {
		return nil, fmt.Errorf("list the client's ACME certificates: %w", err)
	}
	out := make([]managed.Certificate, 0, len(all))
	for _, c := range all {
		m := managed.Certificate{ID: c.ID, Names: c.Identifiers}
		if leaf, err := r.leaf(c); err == nil { // otherwise RevokeFor has the error
			m.Serial = hex.EncodeToString(leaf.SerialNumber.Bytes())
		}
		out = append(out, m)
	}
	return out, nil
}

// leaf returns the leaf of a stored certificate.
func (r *Relay) leaf(c acmeserver.Certificate) (*x509.Certificate, error) {
	if len(c.Chains) == 0 {
		return nil, errors.New("the record has no chain")
	}
	chain, err := r.cfg.Sealer.Open(c.Chains[0])
	if err != nil {
		return nil, fmt.Errorf("open a sealed certificate: %w", err)
	}
	block, _ := pem.Decode(chain)
	if block == nil {
		return nil, errors.New("the record is not PEM")
	}
	return x509.ParseCertificate(block.Bytes)
}

// RevokeFor revokes a certificate of a client for the administrator. A repetition does no
// harm: after a kill, the certificate is still listed, and the CA accepts the request
// again.
func (r *Relay) RevokeFor(ctx context.Context, client clients.Client, id string, reason cert.Reason) error {
	c, err := r.cfg.Records.CertificateByID(ctx, id)
	switch {
	case errors.Is(err, acmeserver.ErrNotFound): // it has expired meanwhile
		return nil
	case err != nil:
		return fmt.Errorf("read an ACME certificate: %w", err)
	case !c.RevokedAt.IsZero(): // by its client, or another record of it was revoked
		return nil
	}
	leaf, err := r.leaf(c)
	if err != nil {
		return err
	}
	ca, release := r.cfg.CA()
	defer release()
	issuedBy := parseState(c.State).CA
	if !ca.HasCA(issuedBy) {
		return &acme.Error{Kind: acme.Permanent, Op: "revoke", Detail: "the proxy does not use the CA of this certificate any more: " + issuedBy}
	}
	err = ca.Revoke(ctx, issuedBy, leaf.Raw, reason)
	entry := trail.Entry{
		ClientID: client.ID, ClientName: client.Name, Addr: trail.Admin, Action: audit.ActionRevoke,
		Mode: clients.ModeACME, Names: c.Identifiers, Outcome: trail.Done, Detail: "reason " + string(reason),
	}
	if err != nil {
		entry.Outcome, entry.Detail = trail.Failed, err.Error()
	}
	r.cfg.Audit.Record(ctx, entry)
	if err != nil {
		return err
	}
	if err := r.cfg.Records.SetRevoked(ctx, c.Fingerprint, r.cfg.Now(), code(reason)); err != nil && !errors.Is(err, acmeserver.ErrExists) {
		return fmt.Errorf("the certificate IS revoked, but that is not recorded: %w", err)
	}
	return nil
}

// code returns the code of a reason (RFC 5280, section 5.3.1).
func code(reason cert.Reason) int {
	for code, known := range reasons {
		if known == reason {
			return code
		}
	}
	return 0
}

// Forget deactivates the accounts of a client that is being removed, so that the Server
// deletes them in time.
func (r *Relay) Forget(ctx context.Context, clientID string) error {
	return r.cfg.Records.DeactivateAccounts(ctx, clientID+".")
}
