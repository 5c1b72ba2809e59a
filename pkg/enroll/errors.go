package enroll

import (
	"errors"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// The errors that need a remedy in the words of the frontend.
var (
	// ErrNoURL means that neither the request nor the configuration says how a host
	// reaches the API.
	ErrNoURL = errors.New("url: the address of the API is unknown; give it with the request")
	// ErrRecipientsKept means that a request for one more token named recipients.
	ErrRecipientsKept = errors.New("recipients: only a replacement of all credentials sets them; a host adds its own when it enrols")
	// ErrToken means that an enrolment token is unknown, expired or used.
	ErrToken = errors.New("token: unknown, expired or used")
	// ErrOtherClient means that a host enrols with the TLS key of another client.
	ErrOtherClient = errors.New("this TLS key is enrolled for another client already")
	// ErrKeyTaken means that the new TLS key of a rekey is registered already.
	ErrKeyTaken = errors.New("this TLS key is registered already")
	// ErrNotTLSKey means that a caller without a TLS key wants to replace it.
	ErrNotTLSKey = errors.New("only a TLS key can be replaced by its owner")
)

// InvalidError is a request with faults. Nothing was changed.
type InvalidError struct {
	// Faults holds every fault, each with its field and what to write instead.
	Faults []error
}

func (e *InvalidError) Error() string { return errors.Join(e.Faults...).Error() }

// Unwrap returns the faults.
func (e *InvalidError) Unwrap() []error { return e.Faults }

// invalid returns an InvalidError for those of faults that are not nil, or nil.
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

// ExistsError means that a client of this name exists. It is a
// managed.ErrConflict.
type ExistsError struct{ Name string }

func (e *ExistsError) Error() string { return fmt.Sprintf("client %q exists already", e.Name) }

// Unwrap returns managed.ErrConflict.
func (e *ExistsError) Unwrap() error { return managed.ErrConflict }

// KeyError is a fault of a new TLS key or of its proof.
type KeyError struct{ Err error }

func (e *KeyError) Error() string { return e.Err.Error() }

// Unwrap returns the fault.
func (e *KeyError) Unwrap() error { return e.Err }
