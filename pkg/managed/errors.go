package managed

import "errors"

// The errors of a store. They may be wrapped.
var (
	// ErrNotFound means that the record does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that a name or a credential is taken already.
	ErrConflict = errors.New("already exists")
	// ErrLost means that the caller does not hold the lease any more, or the
	// version of the record that it worked from. The caller must drop its work.
	ErrLost = errors.New("no longer held")
	// ErrStale means that the record changed since the caller read it: read it
	// again.
	ErrStale = errors.New("changed meanwhile")
	// ErrOwned means that a name belongs to another client.
	ErrOwned = errors.New("belongs to another client")
	// ErrDisabled means that the client is disabled.
	ErrDisabled = errors.New("disabled")
	// ErrTooMany means that a list would grow beyond its bound.
	ErrTooMany = errors.New("too many")
	// ErrRecipients means that recipients to retire are not the client's, or are
	// its last ones.
	ErrRecipients = errors.New("not among the recipients, or the last of them")
	// ErrNotText means that a text contains NUL or is not UTF-8, which not every
	// database can store.
	ErrNotText = errors.New("not text")
	// ErrUnreachable means that there is no connection to the database's server.
	// A retry may succeed.
	ErrUnreachable = errors.New("cannot be reached")
)

// Fault is an error of the database itself, such as a full disk or a lost
// connection. The caller did nothing wrong, and a retry may succeed.
type Fault struct{ Err error }

// Error returns the text of the driver's error.
func (f *Fault) Error() string { return f.Err.Error() }

// Unwrap returns the driver's error.
func (f *Fault) Unwrap() error { return f.Err }

// IsFault reports whether an error is one of the database itself.
func IsFault(err error) bool {
	var fault *Fault
	return errors.As(err, &fault)
}
