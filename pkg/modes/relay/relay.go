// Package relay decides for stock ACME clients, and obtains their certificates from the
// public CA. It is the accounts, the policy and the issuer of an acmeserver.Server.
//
// A client registers an account with a credential: an external account binding, a secret
// directory URL, or the key of the account itself. All its grants apply to the account.
// Names that they cover need no challenge from the client, because the proxy proves them
// to the CA. Nothing is ordered there before finalize. The order then outlives the
// request, the client and the process.
//
// It must never order what the client may not have at that moment, or hand out a
// certificate that it may not have any more.
package relay

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// CA is the part of issuer.Pool that this package needs. An empty name is the default CA.
type CA interface {
	Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error)
	// CheckNames returns an error if control over one of the names cannot be proven.
	CheckNames(names cert.Names) error
	HasCA(name string) bool
	// Revoke treats a certificate that is revoked already as a success.
	Revoke(ctx context.Context, name string, leafDER []byte, reason cert.Reason) error
	RenewalInfo(ctx context.Context, name, certID string) (issuer.RenewalInfo, error)
	Meta(ctx context.Context) (issuer.Meta, error)
}

// Store finds clients. Errors are those of package managed.
type Store interface {
	ClientByID(ctx context.Context, id string) (clients.Client, error)
	ClientByCredential(ctx context.Context, kind clients.CredentialKind, verifier []byte) (clients.Client, clients.Credential, error)
	// ClientByCredentialID also returns expired credentials.
	ClientByCredentialID(ctx context.Context, id string) (clients.Client, clients.Credential, error)
	// CredentialUsed stores that a credential is being used from an address. kid may be empty.
	CredentialUsed(ctx context.Context, c clients.Credential, kid, addr string) error
	// MoveACMEKey makes a client's credential for one account key one for another key. It
	// returns managed.ErrConflict if that one is registered for another client.
	MoveACMEKey(ctx context.Context, clientID string, from, to []byte) error
}

// Config holds the dependencies of the relay.
type Config struct {
	Store Store
	Audit *audit.Log
	// CA returns the present CA. It stays open until release is called.
	CA func() (ca CA, release func())
	// OwnNames returns the names of the proxy itself. No client may have a certificate for
	// them, because it could pretend to be the proxy. It may be nil.
	OwnNames func() []string
	// Records and Sealer are those of the Server. They are used when a client is removed.
	Records Records
	Sealer  acmeserver.Sealer
	// BindingSecret is the secret of auth.NewBinding.
	BindingSecret []byte
	// Known is called for each request of a client, after its signature was verified. It
	// may be nil.
	Known func(ctx context.Context, clientID string)
	// Unknown is called if the client of a request is refused, because it was locked out. It
	// may be nil.
	Unknown func(ctx context.Context)
	Logger  *slog.Logger
	Now     func() time.Time // time.Now if nil
}

// Relay implements acmeserver.Accounts, Policy, Deliverer, Issuer, Revoker,
// RenewalInformer, and Unbound. It is safe for concurrent use.
type Relay struct {
	cfg     Config
	counted counted
	limited limited
	refused refused
	returns returns
	windows windows
	meta    metaCache

	recording sync.WaitGroup // entries of the audit trail that are being stored
}

// Close waits until the audit trail has all entries about certificates. The Server must
// have stopped.
func (r *Relay) Close() error {
	r.recording.Wait()
	return nil
}

// New returns the relay.
func New(cfg Config) *Relay {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Known == nil {
		cfg.Known = func(context.Context, string) {}
	}
	if cfg.Unknown == nil {
		cfg.Unknown = func(context.Context) {}
	}
	return &Relay{cfg: cfg}
}
