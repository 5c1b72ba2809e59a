package enroll

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Store stores clients and their credentials. Its methods may be used
// concurrently, and each changes everything or nothing. Errors are those of
// package managed.
type Store interface {
	ClientByName(ctx context.Context, name string) (clients.Client, error)
	CreateClient(ctx context.Context, c clients.Client, credentials ...clients.Credential) (clients.Client, error)
	SetClientDisabled(ctx context.Context, id string, disabled bool) error
	RemoveClient(ctx context.Context, id string) error
	// ApplyClients stores the entry that audit creates together with each change.
	ApplyClients(ctx context.Context, a clients.Apply, audit func(clients.Change) trail.Entry) (clients.Applied, error)
	AddCredential(ctx context.Context, c clients.Credential) (clients.Credential, error)
	Credentials(ctx context.Context, clientID string) ([]clients.Credential, error)
	RemoveCredential(ctx context.Context, clientID, id string) (clients.Credential, error)
	// ReplaceACME removes the client's other credentials of the ACME door.
	ReplaceACME(ctx context.Context, c clients.Credential) (added clients.Credential, removed []clients.Credential, err error)
	// ClientByCredential finds unexpired credentials.
	ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error)
	// ReplaceCredentials removes all other credentials and recipients of the client.
	ReplaceCredentials(ctx context.Context, c clients.Credential, recipients []string) (clients.Client, error)
	// EnrollingClient returns the client that Enroll would register the key for.
	// It does not spend the secret.
	EnrollingClient(ctx context.Context, tokenVerifier, keyVerifier []byte) (clients.Client, error)
	// Enroll spends the secret. With managed.ErrDisabled it returns the client, too.
	Enroll(ctx context.Context, tokenVerifier []byte, key clients.Credential, recipients []string) (clients.Client, error)
	RollKey(ctx context.Context, r clients.Rollover) (clients.Client, error)
	ListManaged(ctx context.Context, clientID string, mode clients.Mode, afterID string, limit int) ([]managed.Certificate, error)
}

// Door holds the certificates and accounts of the clients of the ACME door. Its methods
// may be used concurrently.
type Door interface {
	// ClientCertificates returns up to limit certificates that are neither expired nor
	// revoked, and whose IDs follow after. They have ID, Names and Serial only.
	ClientCertificates(ctx context.Context, clientID, after string, limit int) ([]managed.Certificate, error)
	// RevokeFor revokes one of them. It may be repeated.
	RevokeFor(ctx context.Context, c clients.Client, id string, reason cert.Reason) error
	// Forget lets the client's accounts end. It may be repeated.
	Forget(ctx context.Context, clientID string) error
}

// Config holds the dependencies of a Registrar.
type Config struct {
	Store Store      // must be set
	Audit *audit.Log // must be set
	// URL returns the address of the API for enrolment tokens. If it is nil or returns
	// an empty string, each request for a token must contain one.
	URL func() string
	// ACME returns the URL of the ACME door, such as https://acmeproxy.example.com/acme. If
	// it is nil or returns an empty string, no credentials of that door are issued.
	ACME func() string
	// BindingSecret is the secret of auth.NewBinding.
	BindingSecret []byte
	// Pin is the hash of the key that enrolment tokens pin.
	Pin [32]byte
	// Revoke revokes the current certificate of a client and deletes it from the
	// store. If the revocation fails, it is not deleted. Only RevokeAll needs Revoke.
	Revoke func(ctx context.Context, c clients.Client, m managed.Certificate, reason cert.Reason) error
	// Door may be nil.
	Door Door
	// Changed is called after clients lost grants or credentials, or may have. If nil,
	// nothing is called.
	Changed func(ctx context.Context)
	// Now returns the time. If nil, it is time.Now. It must be safe for concurrent
	// use.
	Now func() time.Time
}

// Registrar implements the use cases. It may be used concurrently.
type Registrar struct{ cfg Config }

// New creates a Registrar.
func New(cfg Config) *Registrar {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Changed == nil {
		cfg.Changed = func(context.Context) {}
	}
	return &Registrar{cfg}
}

// record writes an administrator's action to the audit trail.
func (r *Registrar) record(ctx context.Context, action string, c clients.Client, detail string) {
	r.cfg.Audit.Record(ctx, trail.Entry{
		ClientID: c.ID, ClientName: c.Name, Addr: trail.Admin, Action: action, Outcome: trail.Done, Detail: detail,
	})
}
