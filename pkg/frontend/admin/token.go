package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// DefaultTokenLife is how long an enrolment token may be used.
const DefaultTokenLife = 24 * time.Hour

// Secret says what a client is given to prove itself with.
type Secret struct {
	Bearer    bool         `json:"bearer,omitempty"` // a bearer token in place of an enrolment token
	URL       string       `json:"url,omitempty"`    // how this client reaches the API, if not by the proxy's hostname
	TokenLife JSONDuration `json:"token_life,omitempty"`
}

// NewToken is a request for one more token of a client.
type NewToken struct {
	Secret
	// Replace takes away all credentials and recipients that the client has. It
	// has Recipients then.
	Replace    bool     `json:"replace,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
}

// NewToken gives a client one more token, and returns the one copy of it.
func (a *Admin) NewToken(ctx context.Context, name string, req NewToken) (answer NewClientAnswer, err error) {
	return answer, a.call(ctx, http.MethodPost, "/clients/"+url.PathEscape(name)+"/token", req, &answer)
}

// token gives a client one more secret, or this one in place of all it has.
func (f *frontend) token(r *http.Request, req NewToken) (NewClientAnswer, error) {
	row, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
	if err != nil {
		return NewClientAnswer{}, err
	}
	answer, credential, err := f.credential(req.Secret)
	faults := seal.CheckNew(req.Recipients, row.Recipients)
	if len(req.Recipients) > 0 && !req.Replace {
		faults = errors.Join(faults, errors.New("recipient: goes with --replace only; a host adds its own recipients when it enrols, see acmeproxy remote enroll --help"))
	}
	if err := errors.Join(faults, err); err != nil {
		return NewClientAnswer{}, &refusal{http.StatusUnprocessableEntity, err}
	}
	credential.ClientID = row.ID
	entry := trail.Entry{ClientID: row.ID, ClientName: row.Name, Addr: trail.Admin, Action: "client token", Outcome: trail.Done, Detail: string(credential.Kind)}
	if req.Replace {
		entry.Detail += ", in place of all credentials and recipients"
		row, err = f.Store.ReplaceCredentials(r.Context(), credential, req.Recipients)
	} else {
		_, err = f.Store.AddCredential(r.Context(), credential)
	}
	if err != nil {
		return NewClientAnswer{}, err
	}
	f.Audit.Record(r.Context(), entry)
	answer.Client = wireClient(row)
	return answer, nil
}

// credential makes a client's secret; the store gets its verifier only.
func (f *frontend) credential(req Secret) (NewClientAnswer, clients.Credential, error) {
	if req.Bearer {
		token, verifier := auth.NewBearer()
		return NewClientAnswer{BearerToken: token}, clients.Credential{Kind: clients.Bearer, Verifier: verifier}, nil
	}
	target := req.URL
	if target == "" {
		target = f.URL
	}
	if target == "" {
		return NewClientAnswer{}, clients.Credential{}, errors.New("url: the proxy does not know its name; start serve with --hostname, or say how this client reaches it: --url https://HOST:PORT")
	}
	life := time.Duration(req.TokenLife)
	if life == 0 {
		life = DefaultTokenLife
	}
	if life < time.Minute || life > 30*24*time.Hour {
		return NewClientAnswer{}, clients.Credential{}, errors.New("token-life: must be between 1m and 720h")
	}
	token, err := auth.NewEnrollToken(target, f.Pin)
	if err != nil {
		return NewClientAnswer{}, clients.Credential{}, fmt.Errorf("url: %w", err)
	}
	expires := f.Now().Add(life).UTC().Truncate(time.Second)
	return NewClientAnswer{EnrollToken: token.String(), ExpiresAt: expires},
		clients.Credential{Kind: clients.Enrolment, Verifier: token.Verifier(), ExpiresAt: expires}, nil
}
