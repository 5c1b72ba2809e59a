package enroll

import (
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// The errors to which the frontend adds a remedy.
var (
	// ErrNoURL means that neither the request nor the configuration has a URL of the
	// API.
	ErrNoURL = errors.New("url: the address of the API is unknown; give it with the request")
	// ErrNoACME means that the configuration has no URL of the ACME door.
	ErrNoACME = errors.New("hostname: the public name of the proxy is unknown, so the directory has no URL; configure it")
	// ErrRecipientsKept means that a request for another token contains recipients.
	ErrRecipientsKept = errors.New("recipients: only a replacement of all credentials sets them; a host adds its own when it enrols")
	// ErrToken means that an enrolment token is unknown, expired or used.
	ErrToken = errors.New("token: unknown, expired or used")
	// ErrOtherClient means that a host tried to enrol with the TLS key of another client.
	ErrOtherClient = errors.New("this TLS key is enrolled for another client already")
	// ErrKeyTaken means that the new TLS key of a rekey is registered already.
	ErrKeyTaken = errors.New("this TLS key is registered already")
	// ErrNoCredential means that the client has no such credential of the ACME door.
	ErrNoCredential = errors.New("the client has no such credential of the ACME door")
	// ErrNotTLSKey means that a caller without a TLS key tried to replace its key.
	ErrNotTLSKey = errors.New("only a TLS key can be replaced by its owner")
)

// InvalidError reports the faults of a request. Nothing was changed.
type InvalidError struct {
	// Faults holds every fault, each with its field and the remedy.
	Faults []error
}

func (e *InvalidError) Error() string { return errors.Join(e.Faults...).Error() }

// Unwrap returns the faults.
func (e *InvalidError) Unwrap() []error { return e.Faults }

// invalid returns an *InvalidError with the faults that are not nil, or nil.
func invalid(faults ...error) error {
	var kept []error
	for _, err := range faults {
		if err != nil {
			kept = append(kept, err)
		}
	}
	if len(kept) == 0 {
		return nil
	}
	return &InvalidError{kept}
}

// AccountKeyTakenError reports that an ACME account key is registered already.
type AccountKeyTakenError struct {
	Client       string // its name; empty if the credential has expired
	CredentialID string
}

func (e *AccountKeyTakenError) Error() string {
	if e.Client == "" {
		return "this account key is registered already, by a credential that has expired"
	}
	return fmt.Sprintf("this account key is registered already, for client %q with the credential %s", e.Client, e.CredentialID)
}

// ExistsError reports that a client of this name exists. It wraps
// managed.ErrConflict.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("client %q exists already", e.Name) }

// Unwrap returns managed.ErrConflict.
func (e *ExistsError) Unwrap() error { return managed.ErrConflict }

// KeyError reports a fault of a new TLS key or of its proof.
type KeyError struct{ Err error }

func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap returns the fault.
func (e *KeyError) Unwrap() error { return e.Err }
