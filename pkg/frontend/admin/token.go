package admin

import (
	"context"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
)

// Secret selects the secret with which a client proves itself.
type Secret struct {
	Bearer    bool         `json:"bearer,omitempty"` // a bearer token instead of an enrolment token
	URL       string       `json:"url,omitempty"`    // URL of the API for this client, if not the proxy's hostname
	TokenLife JSONDuration `json:"token_life,omitempty"`
	None      bool         `json:"-"` // no secret; of NewClient only
}

func (s Secret) spec() enroll.SecretSpec {
	return enroll.SecretSpec{None: s.None, Bearer: s.Bearer, URL: s.URL, Life: time.Duration(s.TokenLife)}
}

// NewToken is a request for another token of a client.
type NewToken struct {
	Secret
	// Replace removes all credentials and recipients of the client. The client gets
	// Recipients instead.
	Replace    bool     `json:"replace,omitempty"`
	Recipients []string `json:"recipients,omitempty"`
}

// NewToken issues another token for a client, and returns its only copy.
func (a *Admin) NewToken(ctx context.Context, name string, req NewToken) (answer NewClientAnswer, err error) {
	return answer, a.call(ctx, http.MethodPost, clientPath(name)+"/token", req, &answer)
}

// token issues another secret for a client, or one that replaces all its credentials.
func (f *frontend) token(r *http.Request, req NewToken) (NewClientAnswer, error) {
	issued, err := f.Registrar.Token(r.Context(), r.PathValue("name"), enroll.TokenRequest{
		SecretSpec: req.spec(), Replace: req.Replace, Recipients: req.Recipients,
	})
	return wireIssued(issued, err)
}

func wireIssued(i enroll.Issued, err error) (NewClientAnswer, error) {
	if err != nil {
		return NewClientAnswer{}, err
	}
	answer := NewClientAnswer{Client: wireClient(i.Client), ExpiresAt: i.ExpiresAt}
	switch i.Kind {
	case clients.Bearer:
		answer.BearerToken = i.Secret
	case clients.Enrolment:
		answer.EnrollToken = i.Secret
	}
	return answer, nil
}
