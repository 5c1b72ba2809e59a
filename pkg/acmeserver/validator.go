package acmeserver

import (
	"context"
	"net/netip"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Validation is a challenge to be validated.
type Validation struct {
	Type             string          // of the challenge
	Identifier       acme.Identifier // without "*." of a wildcard
	Wildcard         bool
	Token            string
	KeyAuthorization string     // RFC 8555, section 8.1
	AccountID, Owner string     // of the account
	Addr             netip.Addr // of the client that asked for the validation
	Attempts         int        // that came before
}

// Validator validates challenges of one type. It may be used concurrently. It returns
// nil if the client controls the identifier. An *acme.Problem makes the authorization
// invalid. A *Later, and any other error, makes the Server ask again with increasing
// delays until the authorization expires.
type Validator interface {
	Validate(ctx context.Context, v Validation) error
}

// ValidatorFunc is a function as a Validator.
type ValidatorFunc func(ctx context.Context, v Validation) error

// Validate implements Validator.
func (f ValidatorFunc) Validate(ctx context.Context, v Validation) error { return f(ctx, v) }
