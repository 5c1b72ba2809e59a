package issuer

import (
	"context"
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"filippo.io/age"
	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Accounts stores one account for each CA. The key must be on disk before it is
// sent to the CA for the first time. A crash then loses no account, because
// newAccount with a known key returns the existing one.
type Accounts interface {
	// Account returns the key, and the account's URL and contact. It creates and
	// stores the key at the first call. URL and contact are empty before SetURL.
	Account(ctx context.Context, directoryURL string) (key crypto.Signer, url, email string, err error)
	// SetURL stores the account's URL and contact.
	SetURL(ctx context.Context, directoryURL, url, email string) error
}

// AccountStore stores accounts. Its methods may be used concurrently.
type AccountStore interface {
	// AccountByDirectory returns managed.ErrNotFound for an unknown directory.
	AccountByDirectory(ctx context.Context, directoryURL string) (acme.Account, error)
	// CreateAccount returns the stored account, which may be another instance's.
	CreateAccount(ctx context.Context, a acme.Account) (acme.Account, error)
	SetAccountURL(ctx context.Context, directoryURL, url, email string) error
}

// StoredAccounts implements Accounts with a store. It seals the keys to Identity.
type StoredAccounts struct {
	Store    AccountStore
	Identity *age.X25519Identity
}

// Account implements Accounts.
func (a *StoredAccounts) Account(ctx context.Context, directoryURL string) (key crypto.Signer, url, email string, err error) {
	row, err := a.Store.AccountByDirectory(ctx, directoryURL)
	if errors.Is(err, managed.ErrNotFound) {
		row, err = a.create(ctx, directoryURL)
	}
	if err != nil {
		return nil, "", "", err
	}
	pem, err := seal.Open(row.SealedKey, a.Identity)
	if err != nil {
		return nil, "", "", fmt.Errorf("the account key of %s: %w; was the identity file replaced?", directoryURL, err)
	}
	key, err = cert.ParseKey(pem)
	return key, row.URL, row.Email, err
}

func (a *StoredAccounts) create(ctx context.Context, directoryURL string) (acme.Account, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return acme.Account{}, err
	}
	pem, err := cert.MarshalKey(key)
	if err != nil {
		return acme.Account{}, err
	}
	sealed, err := seal.Seal(pem, a.Identity.Recipient())
	if err != nil {
		return acme.Account{}, err
	}
	return a.Store.CreateAccount(ctx, acme.Account{DirectoryURL: directoryURL, SealedKey: sealed})
}

// SetURL implements Accounts.
func (a *StoredAccounts) SetURL(ctx context.Context, directoryURL, url, email string) error {
	return a.Store.SetAccountURL(ctx, directoryURL, url, email)
}

// EAB is an external account binding (RFC 8555, section 7.3.4), which some CAs
// require. HMACKey is base64 of any variant, as the CA shows it.
type EAB struct{ Kid, HMACKey string }

// minHMACKey is the minimum length of an HMAC key, in bytes. The keys of public CAs
// have 32 or more.
const minHMACKey = 16

// ErrEAB reports an external account binding that can never work.
var ErrEAB = errors.New("eab-hmac-key-file")

// canonical checks a binding and writes its key in base64url without padding.
func (e *EAB) canonical() (*EAB, error) {
	kid := trimText(e.Kid)
	if kid == "" {
		return nil, errors.New("eab-kid: empty; set it to the key identifier from the CA")
	}
	text := strings.Join(strings.Fields(trimText(e.HMACKey)), "")
	text = strings.NewReplacer("+", "-", "/", "_").Replace(strings.TrimRight(text, "="))
	key, err := base64.RawURLEncoding.DecodeString(text)
	switch {
	case err != nil: // the message omits the text, which is a secret
		return nil, fmt.Errorf("%w: the key is not base64; write the HMAC key into the file as the CA shows it", ErrEAB)
	case len(key) < minHMACKey:
		return nil, fmt.Errorf("%w: the key has %d bytes, fewer than %d; write the whole HMAC key from the CA into the file",
			ErrEAB, len(key), minHMACKey)
	}
	return &EAB{Kid: kid, HMACKey: base64.RawURLEncoding.EncodeToString(key)}, nil
}

// trimText removes white space around a text, and the byte order mark that editors on
// Windows put before it.
func trimText(text string) string {
	return strings.TrimFunc(text, func(r rune) bool { return r == '\ufeff' || unicode.IsSpace(r) })
}

// account holds the key and the URL of an account.
type account struct {
	key crypto.Signer
	url string
}

// account returns the account, and registers it if necessary. One goroutine
// registers, the others wait for it.
func (ca *CA) account(ctx context.Context) (account, error) {
	if err := ca.registering.Acquire(ctx, 1); err != nil {
		return account{}, classify("register the account", err, time.Time{})
	}
	defer ca.registering.Release(1)
	if ca.current.url != "" && (ca.contactAt.IsZero() || ca.cfg.Now().Before(ca.contactAt)) {
		return ca.current, nil
	}
	key, url, email, err := ca.cfg.Accounts.Account(ctx, ca.cfg.DirectoryURL)
	if err != nil {
		return account{}, &acme.Error{Kind: acme.Temporary, Op: "load the account", Detail: err.Error(), Err: err}
	}
	if url == "" {
		if url, err = ca.register(ctx, key); err != nil {
			return account{}, err
		}
	} else if ca.contactAt = (time.Time{}); email != ca.cfg.Email && ca.cfg.Email != "" {
		if err := ca.updateContact(ctx, account{key, url}); err != nil {
			ca.contactAt = ca.cfg.Now().Add(contactAgain)
			ca.cfg.Logger.Warn("the CA was not told the account's new contact", "error", err, "next_attempt", ca.contactAt)
		}
	}
	ca.current = account{key, url}
	return ca.current, nil
}

const (
	contactAgain   = time.Hour        // delay before the contact is sent again after a failure
	contactTimeout = 10 * time.Second // short, because all issuances wait for it
)

// updateContact sends the account's new contact to the CA. A failure must not
// prevent issuance.
func (ca *CA) updateContact(ctx context.Context, acc account) error {
	const op = "update the account"
	ctx, cancel := context.WithTimeout(ctx, contactTimeout)
	defer cancel()
	s := ca.wire.session(ctx)
	core, err := ca.newCore(s, acc)
	if err != nil {
		return err
	}
	_, err = repeat(s, isTransient, func() (legoacme.Account, error) {
		return core.Accounts.Update(acc.url, legoacme.Account{Contact: []string{"mailto:" + ca.cfg.Email}})
	})
	if err != nil {
		return classify(op, err, time.Time{})
	}
	if err := ca.cfg.Accounts.SetURL(ctx, ca.cfg.DirectoryURL, acc.url, ca.cfg.Email); err != nil {
		return err
	}
	ca.cfg.Logger.Info("the CA has the account's new contact", "directory", ca.cfg.DirectoryURL)
	return nil
}

// TermsError reports that the administrator has not accepted the terms of service of a CA,
// which demands it for a new account.
type TermsError struct{ URL string }

func (e *TermsError) Error() string { return "the terms of service at " + e.URL + " are not accepted" }

// Register registers the account at the default CA, unless that is done. Issue does so, too;
// this is for a program that needs the account at its start. The error is an *acme.Error.
func (p *Pool) Register(ctx context.Context) error {
	_, err := p.standard.account(ctx)
	return err
}

// forget makes the next issuance register again, because the CA lost that account.
func (ca *CA) forget(ctx context.Context, lost account) error {
	if err := ca.registering.Acquire(ctx, 1); err != nil {
		return err
	}
	defer ca.registering.Release(1)
	if ca.current.url != lost.url {
		return nil // another issuance has done it already
	}
	if err := ca.cfg.Accounts.SetURL(ctx, ca.cfg.DirectoryURL, "", ca.cfg.Email); err != nil {
		return err
	}
	ca.current = account{}
	return nil
}

func (ca *CA) register(ctx context.Context, key crypto.Signer) (string, error) {
	const op = "register the account"
	s := ca.wire.session(ctx)
	core, err := ca.newCore(s, account{key: key})
	if err != nil {
		return "", err
	}
	meta := core.GetDirectory().Meta
	accepted := ca.cfg.AcceptTOS
	if ca.cfg.AcceptTerms != nil {
		accepted = ca.cfg.AcceptTerms(meta.TermsOfService)
	}
	if meta.TermsOfService != "" && !accepted {
		return "", &acme.Error{
			Kind: acme.Permanent, Op: op, Err: &TermsError{meta.TermsOfService}, Public: true,
			Detail: fmt.Sprintf("the CA's terms of service are not accepted; read %s, then set --accept-tos", meta.TermsOfService),
		}
	}
	if meta.ExternalAccountRequired && ca.cfg.EAB == nil {
		return "", permanent(op, "the CA requires an external account binding; "+
			"set --eab-kid and --eab-hmac-key-file to the CA's values")
	}
	wanted := legoacme.Account{TermsOfServiceAgreed: accepted, Contact: []string{}}
	if ca.cfg.Email != "" {
		wanted.Contact = []string{"mailto:" + ca.cfg.Email}
	}
	// With a known key, newAccount returns the existing account.
	got, err := repeat(s, isTransient, func() (legoacme.ExtendedAccount, error) {
		got, err := newAccount(core, wanted, ca.cfg.EAB)
		if err == nil && got.Location == "" {
			err = errors.New("the CA returned no URL for the account")
		}
		return got, err
	})
	if err != nil {
		return "", classify(op, err, time.Time{})
	}
	if err := ca.cfg.Accounts.SetURL(ctx, ca.cfg.DirectoryURL, got.Location, ca.cfg.Email); err != nil {
		return "", &acme.Error{Kind: acme.Temporary, Op: "store the account", Detail: err.Error(), Err: err}
	}
	ca.cfg.Logger.Info("registered at the CA", "directory", ca.cfg.DirectoryURL, "account", got.Location)
	return got.Location, nil
}

func newAccount(core *api.Core, wanted legoacme.Account, eab *EAB) (legoacme.ExtendedAccount, error) {
	if eab == nil {
		return core.Accounts.New(wanted)
	}
	return core.Accounts.NewEAB(wanted, eab.Kid, eab.HMACKey)
}
