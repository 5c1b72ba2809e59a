package managed

import "errors"

// The errors of a store. They may be wrapped.
var (
	// ErrNotFound means that the record does not exist.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that a name or a credential exists already.
	ErrConflict = errors.New("already exists")
	// ErrLost means that the caller lost its lease, or that the version of the record
	// that it worked from was replaced. The caller must discard its work.
	ErrLost = errors.New("no longer held")
	// ErrStale means that the record changed since the caller read it. The caller
	// must read it again.
	ErrStale = errors.New("changed meanwhile")
	// ErrOwned means that a name belongs to another client.
	ErrOwned = errors.New("belongs to another client")
	// ErrShared means that other enrolled hosts of the client also use the certificate.
	ErrShared = errors.New("used by other hosts of the client")
	// ErrNoCertificate means that there is no valid certificate: it was not obtained yet,
	// has expired or is revoked.
	ErrNoCertificate = errors.New("there is no valid certificate")
	// ErrDisabled means that the client is disabled.
	ErrDisabled = errors.New("disabled")
	// ErrTooMany means that a list would exceed its limit.
	ErrTooMany = errors.New("too many")
	// ErrRecipients means that recipients to retire are not the client's, or that it
	// would have no others.
	ErrRecipients = errors.New("not among the recipients, or the last of them")
	// ErrNotText means that a text contains NUL or is not UTF-8. Not every database
	// can store that.
	ErrNotText = errors.New("not text")
	// ErrUnreachable means that the database's server cannot be connected to. A retry
	// may succeed.
	ErrUnreachable = errors.New("cannot be reached")
)

// Fault wraps an error of the database itself, such as a full disk or a lost
// connection. The caller's request was correct, and a retry may succeed.
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
