package enroll

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// ACMESpec describes a credential with which a client registers ACME accounts.
type ACMESpec struct {
	Kind       clients.CredentialKind // one of clients.ACMEKinds
	Thumbprint string                 // of the account key, for clients.ACMEKey only
	Networks   []string               // from which its accounts may be used; none: any that the grants allow
	Life       time.Duration          // 0: it does not expire
	Replace    bool                   // remove the client's other credentials of the ACME door
}

// ACMEIssued is a client with its new credential of the ACME door. HMACKey and the URL of
// a secret directory are the only copies, and must not be logged.
type ACMEIssued struct {
	Client       clients.Client
	Credential   clients.Credential
	Directory    string // URL
	Kid, HMACKey string // of clients.ACMEBinding; the key in base64url
	// Removed holds the credentials that were replaced.
	Removed []clients.Credential
}

// The lifetime of a credential of the ACME door.
const (
	minACMELife = time.Minute
	maxACMELife = 100 * 365 * 24 * time.Hour
)

// maxACME is the number of credentials of the ACME door that a client may have. Each one
// has its own share of the door's limits.
const maxACME = 100

// ACME issues a credential of the ACME door for the client of this name. The error is an
// *InvalidError with all faults, an *AccountKeyTakenError, or managed.ErrNotFound for an
// unknown client.
func (r *Registrar) ACME(ctx context.Context, name string, spec ACMESpec) (ACMEIssued, error) {
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return ACMEIssued{}, err
	}
	issued, credential, err := r.newACME(spec)
	faults := []error{err, r.checkLife(spec, &credential)}
	for _, s := range spec.Networks {
		if err := policy.CheckNetwork(s); err != nil {
			faults = append(faults, fmt.Errorf("networks: %w", err))
		}
	}
	if !spec.Replace {
		faults = append(faults, r.checkCount(ctx, c))
	}
	if err := invalid(faults...); err != nil {
		return ACMEIssued{}, err
	}
	credential.ClientID, credential.Networks = c.ID, spec.Networks
	if issued.Credential, issued.Removed, err = r.store(ctx, credential, spec.Replace); err != nil {
		return ACMEIssued{}, err
	}
	detail := acmeDetail(issued.Credential)
	if spec.Replace {
		detail += ", replacing all others of the ACME door"
	}
	r.record(ctx, "client acme", c, detail)
	issued.Client = c
	return issued, nil
}

// store stores a credential. It returns the credentials that it replaces.
func (r *Registrar) store(ctx context.Context, c clients.Credential, replace bool) (added clients.Credential, removed []clients.Credential, err error) {
	if replace {
		added, removed, err = r.cfg.Store.ReplaceACME(ctx, c)
	} else {
		added, err = r.cfg.Store.AddCredential(ctx, c)
	}
	if !errors.Is(err, managed.ErrConflict) {
		return added, removed, err
	}
	taken := &AccountKeyTakenError{}
	client, has, err := r.cfg.Store.ClientByCredential(ctx, c.Kind, c.Verifier)
	switch {
	case err == nil:
		taken.Client, taken.CredentialID = client.Name, has.ID
	case !errors.Is(err, managed.ErrNotFound):
		return added, nil, err
	}
	return added, nil, taken
}

// newACME creates the secrets of a credential.
func (r *Registrar) newACME(spec ACMESpec) (issued ACMEIssued, credential clients.Credential, err error) {
	base := ""
	if r.cfg.ACME != nil {
		base = r.cfg.ACME()
	}
	if base == "" {
		return issued, credential, ErrNoACME
	}
	credential.Kind = spec.Kind
	entrance := ""
	switch spec.Kind {
	case clients.ACMEBinding:
		issued.Kid, issued.HMACKey, credential.Verifier, err = auth.NewBinding(r.cfg.BindingSecret)
		credential.Kid = issued.Kid
	case clients.ACMEDirectory:
		entrance, credential.Verifier = auth.NewEntrance()
	case clients.ACMEKey:
		entrance = auth.KeyEntrance
		if credential.Verifier, err = auth.ThumbprintVerifier(spec.Thumbprint); err != nil {
			err = fmt.Errorf("thumbprint: %w", err)
		}
	default:
		err = fmt.Errorf("kind: %q is not of the ACME door; use one of %s", spec.Kind, clients.ACMEKinds())
	}
	if spec.Thumbprint != "" && spec.Kind != clients.ACMEKey {
		err = errors.Join(err, fmt.Errorf("thumbprint: it belongs to the kind %s only; remove it", clients.ACMEKey))
	}
	if entrance != "" {
		entrance = "/at/" + entrance
	}
	issued.Directory = base + entrance + "/directory"
	return issued, credential, err
}

func (r *Registrar) checkLife(spec ACMESpec, credential *clients.Credential) error {
	switch {
	case spec.Life == 0:
		return nil
	case spec.Life < minACMELife || spec.Life > maxACMELife:
		return errors.New("expires_in: must be at least 1m and at most 100 years, or left out for a credential that does not expire")
	}
	credential.ExpiresAt = r.cfg.Now().Add(spec.Life).UTC().Truncate(time.Second)
	return nil
}

// checkCount returns an error if the client may have no further credential.
func (r *Registrar) checkCount(ctx context.Context, c clients.Client) error {
	have, err := r.acmeCredentials(ctx, c)
	if err == nil && len(have) >= maxACME {
		err = fmt.Errorf("client: it has %d credentials of the ACME door already; remove those that are not used", len(have))
	}
	return err
}

func (r *Registrar) acmeCredentials(ctx context.Context, c clients.Client) ([]clients.Credential, error) {
	all, err := r.cfg.Store.Credentials(ctx, c.ID)
	return slices.DeleteFunc(all, func(c clients.Credential) bool { return !c.Kind.IsACME() }), err
}

func acmeDetail(c clients.Credential) string {
	detail := fmt.Sprintf("%s, credential %s", c.Kind, c.ID)
	if len(c.Networks) > 0 {
		detail += ", from " + strings.Join(c.Networks, ",")
	}
	if !c.ExpiresAt.IsZero() {
		detail += ", until " + printable.Time(c.ExpiresAt)
	}
	return detail
}

// names reports whether a person means the credential: by its ID, by its key identifier,
// or by the thumbprint of its account key.
func names(id string, c clients.Credential) bool {
	var verifier []byte
	switch c.Kind {
	case clients.ACMEBinding:
		verifier, _ = auth.BindingVerifier(id) // nil if it has another form
	case clients.ACMEKey:
		verifier, _ = auth.ThumbprintVerifier(id)
	}
	return c.ID == id || verifier != nil && bytes.Equal(verifier, c.Verifier)
}

// RevokeACME removes a credential of the ACME door by its ID, its key identifier or the
// thumbprint of its account key, or all of them if id is empty. The accounts that were registered with it cannot be used any more. It returns the removed
// credentials. The error is managed.ErrNotFound for an unknown client, or
// ErrNoCredential.
func (r *Registrar) RevokeACME(ctx context.Context, name, id string) ([]clients.Credential, error) {
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return nil, err
	}
	have, err := r.acmeCredentials(ctx, c)
	if err != nil {
		return nil, err
	}
	if id != "" {
		have = slices.DeleteFunc(have, func(c clients.Credential) bool { return !names(id, c) })
	}
	var removed []clients.Credential
	for _, credential := range have {
		switch _, err := r.cfg.Store.RemoveCredential(ctx, c.ID, credential.ID); {
		case errors.Is(err, managed.ErrNotFound): // it was removed meanwhile
		case err != nil:
			return removed, err
		default:
			removed = append(removed, credential)
			r.record(ctx, "client acme revoke", c, acmeDetail(credential))
		}
	}
	if id != "" && len(removed) == 0 {
		return nil, ErrNoCredential
	}
	return removed, nil
}
