package enroll

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// The lifetime of an enrolment token.
const (
	DefaultTokenLife = 24 * time.Hour
	minTokenLife     = time.Minute
	maxTokenLife     = 30 * 24 * time.Hour
)

// SecretSpec selects the secret with which a client proves itself.
type SecretSpec struct {
	Bearer bool // a bearer token instead of an enrolment token
	None   bool // no secret; Registrar.ACME issues one. Only Add accepts it.
	// URL is the address at which this client reaches the API. If empty, it is that
	// of the configuration. A bearer token has none.
	URL string
	// Life is the lifetime of an enrolment token. If 0, it is DefaultTokenLife.
	Life time.Duration
}

// Issued is a client with its new secret.
type Issued struct {
	Client clients.Client
	Kind   clients.CredentialKind // clients.Enrolment, clients.Bearer, or empty if there is no secret
	// Secret is the only copy of the token. It must not be logged.
	Secret    string
	ExpiresAt time.Time // if zero, the secret does not expire
}

// Add adds a client with a first secret. It uses only the name, the recipients and
// the grants of c. The error is an *InvalidError with all faults, or an *ExistsError
// if the name is taken.
func (r *Registrar) Add(ctx context.Context, c clients.Client, s SecretSpec) (Issued, error) {
	faults := []error{CheckName(c.Name), seal.CheckNew(c.Recipients, nil)}
	faults = append(faults, checkGrants(c.Grants)...)
	var issued Issued
	var credentials []clients.Credential
	if !s.None {
		secret, credential, err := r.newSecret(s)
		faults, issued, credentials = append(faults, err), secret, append(credentials, credential)
	}
	if err := invalid(faults...); err != nil {
		return Issued{}, err
	}
	added, err := r.cfg.Store.CreateClient(ctx, clients.Client{Name: c.Name, Recipients: c.Recipients, Grants: c.Grants}, credentials...)
	if errors.Is(err, managed.ErrConflict) {
		return Issued{}, &ExistsError{c.Name}
	}
	if err != nil {
		return Issued{}, err
	}
	r.record(ctx, "client add", added, "")
	issued.Client = added
	return issued, nil
}

// TokenRequest asks for one more secret of a client.
type TokenRequest struct {
	SecretSpec
	// Replace removes all credentials and recipients of the client. The client gets
	// Recipients instead.
	Replace    bool
	Recipients []string
}

// Token issues another secret for the client of this name, or one that replaces all
// its credentials. The error is an *InvalidError with all faults, or
// managed.ErrNotFound for an unknown client.
func (r *Registrar) Token(ctx context.Context, name string, req TokenRequest) (Issued, error) {
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return Issued{}, err
	}
	faults := []error{seal.CheckNew(req.Recipients, c.Recipients)}
	if len(req.Recipients) > 0 && !req.Replace {
		faults = append(faults, ErrRecipientsKept)
	}
	issued, credential, err := r.newSecret(req.SecretSpec)
	if err := invalid(append(faults, err)...); err != nil {
		return Issued{}, err
	}
	credential.ClientID = c.ID
	detail := string(credential.Kind)
	if req.Replace {
		detail += ", replacing all credentials and recipients"
		c, err = r.cfg.Store.ReplaceCredentials(ctx, credential, req.Recipients)
	} else {
		_, err = r.cfg.Store.AddCredential(ctx, credential)
	}
	if err != nil {
		return Issued{}, err
	}
	r.record(ctx, "client token", c, detail)
	if req.Replace {
		r.cfg.Changed(ctx)
	}
	issued.Client = c
	return issued, nil
}

// newSecret generates a secret, and the credential to store for it.
func (r *Registrar) newSecret(s SecretSpec) (Issued, clients.Credential, error) {
	if s.Bearer {
		token, verifier := auth.NewBearer()
		return Issued{Kind: clients.Bearer, Secret: token}, clients.Credential{Kind: clients.Bearer, Verifier: verifier}, nil
	}
	if s.URL == "" && r.cfg.URL != nil {
		s.URL = r.cfg.URL()
	}
	if s.URL == "" {
		return Issued{}, clients.Credential{}, ErrNoURL
	}
	if s.Life == 0 {
		s.Life = DefaultTokenLife
	}
	if s.Life < minTokenLife || s.Life > maxTokenLife {
		return Issued{}, clients.Credential{}, errors.New("token_life: must be between 1m and 720h")
	}
	token, err := auth.NewEnrollToken(s.URL, r.cfg.Pin)
	if err != nil {
		return Issued{}, clients.Credential{}, fmt.Errorf("url: %w", err)
	}
	expires := r.cfg.Now().Add(s.Life).UTC().Truncate(time.Second)
	return Issued{Kind: clients.Enrolment, Secret: token.String(), ExpiresAt: expires},
		clients.Credential{Kind: clients.Enrolment, Verifier: token.Verifier(), ExpiresAt: expires}, nil
}

// checkGrants returns the faults of a client's grants.
func checkGrants(grants []clients.Grant) []error {
	if len(grants) == 0 {
		return []error{errors.New("grants: none given; say what the client may ask for")}
	}
	faults := make([]error, 0, len(grants))
	for _, g := range grants {
		faults = append(faults, policy.ValidateGrant(g))
	}
	return faults
}

// CheckName returns an error for a client's name that is unfit for paths and logs.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 100 && name[0] != '-' && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return fmt.Errorf("name: %q cannot name a client; use letters, digits, - _ . and at most 100 of them", name)
	}
	return nil
}
