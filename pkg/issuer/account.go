package issuer

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"time"

	"filippo.io/age"
	"github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// Accounts keeps the one account at a CA. The key must be on disk before it is
// sent to the CA for the first time: then a crash costs nothing, because
// newAccount with a known key answers with the account that exists.
type Accounts interface {
	// Account returns the key, made and kept at the first call, and the
	// account's URL, empty before SetURL.
	Account(ctx context.Context, directoryURL string) (key crypto.Signer, url string, err error)
	// SetURL keeps what newAccount answered.
	SetURL(ctx context.Context, directoryURL, url, email string) error
}

// StoredAccounts keeps accounts in the store, their keys sealed to Identity.
type StoredAccounts struct {
	Store    *store.Store
	Identity *age.X25519Identity
}

// Account implements Accounts.
func (a *StoredAccounts) Account(ctx context.Context, directoryURL string) (crypto.Signer, string, error) {
	row, err := a.Store.AccountByDirectory(ctx, directoryURL)
	if errors.Is(err, store.ErrNotFound) {
		row, err = a.create(ctx, directoryURL)
	}
	if err != nil {
		return nil, "", err
	}
	pem, err := seal.Open(row.SealedKey, a.Identity)
	if err != nil {
		return nil, "", fmt.Errorf("the account key of %s: %w; was the identity file replaced?", directoryURL, err)
	}
	key, err := cert.ParseKey(pem)
	return key, row.URL, err
}

func (a *StoredAccounts) create(ctx context.Context, directoryURL string) (store.Account, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return store.Account{}, err
	}
	pem, err := cert.MarshalKey(key)
	if err != nil {
		return store.Account{}, err
	}
	sealed, err := seal.Seal(pem, a.Identity.Recipient())
	if err != nil {
		return store.Account{}, err
	}
	return a.Store.CreateAccount(ctx, store.Account{DirectoryURL: directoryURL, SealedKey: sealed})
}

// SetURL implements Accounts.
func (a *StoredAccounts) SetURL(ctx context.Context, directoryURL, url, email string) error {
	return a.Store.SetAccountURL(ctx, directoryURL, url, email)
}

// EAB is an external account binding (RFC 8555, section 7.3.4), which some CAs
// ask for. HMACKey is base64url, as the CA shows it.
type EAB struct{ Kid, HMACKey string }

// account is the one in use.
type account struct {
	key crypto.Signer
	url string
}

// account returns the account, registering it if the CA has not seen it yet.
// One goroutine registers, the others wait for it.
func (is *Issuer) account(ctx context.Context) (account, error) {
	select {
	case is.registering <- struct{}{}:
		defer func() { <-is.registering }()
	case <-ctx.Done():
		return account{}, classify("register the account", ctx.Err(), time.Time{})
	}
	if is.current.url != "" {
		return is.current, nil
	}
	key, url, err := is.cfg.Accounts.Account(ctx, is.cfg.DirectoryURL)
	if err != nil {
		return account{}, &Error{Kind: Temporary, Op: "load the account", Detail: err.Error(), Err: err}
	}
	if url == "" {
		if url, err = is.register(ctx, key); err != nil {
			return account{}, err
		}
	}
	is.current = account{key, url}
	return is.current, nil
}

// forget makes the next issuance register again: the CA lost that account.
func (is *Issuer) forget(ctx context.Context, lost account) error {
	select {
	case is.registering <- struct{}{}:
		defer func() { <-is.registering }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if is.current.url != lost.url {
		return nil // somebody else did already
	}
	if err := is.cfg.Accounts.SetURL(ctx, is.cfg.DirectoryURL, "", is.cfg.Email); err != nil {
		return err
	}
	is.current = account{}
	return nil
}

func (is *Issuer) register(ctx context.Context, key crypto.Signer) (string, error) {
	const op = "register the account"
	s := is.wire.session(ctx)
	core, err := is.core(s, account{key: key})
	if err != nil {
		return "", err
	}
	meta := core.GetDirectory().Meta
	if meta.TermsOfService != "" && !is.cfg.AcceptTOS {
		return "", permanent(op, "the CA's terms of service are not accepted; read %s, then set --accept-tos", meta.TermsOfService)
	}
	if meta.ExternalAccountRequired && is.cfg.EAB == nil {
		return "", permanent(op, "the CA asks for an external account binding; set --eab-kid and --eab-hmac-key-file with what it gave you")
	}
	wanted := acme.Account{TermsOfServiceAgreed: is.cfg.AcceptTOS, Contact: []string{}}
	if is.cfg.Email != "" {
		wanted.Contact = []string{"mailto:" + is.cfg.Email}
	}
	got, err := newAccount(core, wanted, is.cfg.EAB)
	if err != nil {
		return "", classify(op, err, s.lastRetryAfter())
	}
	if got.Location == "" {
		return "", &Error{Kind: Temporary, Op: op, Detail: "the CA did not say where the account is"}
	}
	if err := is.cfg.Accounts.SetURL(ctx, is.cfg.DirectoryURL, got.Location, is.cfg.Email); err != nil {
		return "", &Error{Kind: Temporary, Op: "keep the account", Detail: err.Error(), Err: err}
	}
	is.cfg.Logger.Info("registered at the CA", "directory", is.cfg.DirectoryURL, "account", got.Location)
	return got.Location, nil
}

func newAccount(core *api.Core, wanted acme.Account, eab *EAB) (acme.ExtendedAccount, error) {
	if eab == nil {
		return core.Accounts.New(wanted)
	}
	return core.Accounts.NewEAB(wanted, eab.Kid, eab.HMACKey)
}
