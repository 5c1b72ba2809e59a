package acmeserver

import (
	"context"
	"errors"
	"time"
)

// The errors of a Storage. They may be wrapped.
var (
	// ErrNotFound means that the record does not exist.
	ErrNotFound = errors.New("not found")
	// ErrExists means that a unique value exists already.
	ErrExists = errors.New("already exists")
	// ErrStale means that the record changed since the caller read it, or that a lease was
	// lost. The caller must read it again.
	ErrStale = errors.New("changed meanwhile")
	// ErrTurn means that another order with the same Share is being issued.
	ErrTurn = errors.New("another order of the same kind is being issued")
	// ErrReplaced means that another order replaces the certificate already.
	ErrReplaced = errors.New("replaced by another order")
	// ErrTooMany means that a limit for one owner would be exceeded.
	ErrTooMany = errors.New("too many")
)

// Storage stores everything that a Server must know after a restart. Several Servers
// may use it at once, also in several processes if it is a database. Its methods may
// be used concurrently. A method that returned nil has stored its change durably,
// apart from UseNonce, CreateOrder and SetCollected, whose changes must survive the end of
// the process only. If the host fails, an order without further changes may be lost, and
// its client must create another one. Package storagetest has the contract as tests.
//
// A record that does not exist is ErrNotFound, whatever bytes its ID has. A new record
// has Version 1, and each change of the Version adds 1, so that a caller can update
// twice without reading in between. Times may lose what is below a millisecond. Nothing
// that a method takes or returns is shared with the storage.
type Storage interface {
	NonceStorage
	AccountStorage
	OrderStorage
	CertificateStorage

	// Purge deletes what ended before a time: orders with their authorizations, and
	// certificates, by their Expires or NotAfter, and deactivated accounts that were created
	// before it. It deletes at most limit records of each kind and reports whether there
	// may be more.
	Purge(ctx context.Context, before time.Time, limit int) (more bool, err error)
	// CorrectDates repairs what a clock left that was ahead and is right now. An order that
	// was created after latest is deleted as by Purge, unless it is processing. An order
	// loses a lease that ends after latest. It becomes due at now if it is due after latest,
	// and was created after that or is due after its Expires. The Version of an order that is
	// changed grows.
	//
	// It needs to look only at the orders that come last, limit by each of these times: by
	// Expires instead of CreatedAt, by LeaseUntil and by DueAt. It returns how many it deleted
	// and changed. Order.CorrectDates decides on one of them.
	CorrectDates(ctx context.Context, now, latest time.Time, limit int) (corrected int, err error)
}

// NonceStorage makes nonces single-use on all instances.
type NonceStorage interface {
	// Secret stores a value under a name unless there is one, and returns the stored one.
	Secret(ctx context.Context, name string, value []byte) ([]byte, error)
	// UseNonce records a nonce until it expires. It returns ErrExists if it was recorded.
	// The same id always has the same time of expiry.
	UseNonce(ctx context.Context, id string, expires time.Time) error
	// PurgeNonces deletes at most limit used nonces that expired before a time, and
	// reports whether there may be more.
	PurgeNonces(ctx context.Context, before time.Time, limit int) (more bool, err error)
}

// AccountStorage stores accounts.
type AccountStorage interface {
	// CreateAccount returns ErrExists if an account has the same key or ID, and
	// ErrTooMany if the owner has most accounts, of any status; 0 sets no limit.
	CreateAccount(ctx context.Context, a Account, most int) error
	AccountByID(ctx context.Context, id string) (Account, error)
	AccountByKey(ctx context.Context, thumbprint string) (Account, error)
	// UpdateAccount replaces the account with the same ID and Version, with the next
	// Version. It returns ErrStale for another version, and ErrExists if another account
	// has the new key.
	UpdateAccount(ctx context.Context, a Account) error
}

// OrderStorage stores orders with their authorizations.
type OrderStorage interface {
	// CreateOrder stores an order. With Replaces, it marks the account's certificate with
	// that ARI id as replaced by the order, or returns ErrNotFound or ErrReplaced. An order
	// that became invalid, or expired before it was valid, replaces nothing. It returns
	// ErrExists if an order has the same ID, ErrTurn as UpdateOrder does, and ErrTooMany if
	// the owner has most orders that are not expired at CreatedAt, and not valid or Joined; 0
	// sets no limit. Invalid and Joined ones count, because a client can create any number
	// of them at no cost.
	CreateOrder(ctx context.Context, o Order, most int) error
	Order(ctx context.Context, id string) (Order, error)
	// OrdersByAccount returns the IDs of an account's orders that are not invalid, the
	// newest first, at most limit. If after is not empty, they follow the order with that
	// ID, also if it is invalid. None follow an order that does not exist.
	OrdersByAccount(ctx context.Context, accountID, after string, limit int) ([]string, error)
	// UpdateOrder replaces the order with the same ID and Version, with the next Version.
	// AccountID, Owner, Identifiers, Replaces and CreatedAt stay. It returns ErrStale for
	// another version, and ErrTurn if the order becomes Issuing while another one with the
	// same Share is. If it ceases to be Issuing, the others of the same Share that are
	// processing become due as of their CreatedAt, and their Version changes. So an order
	// that gets ErrTurn must be stored as processing before; then its next update fails
	// with ErrStale if its turn came meanwhile.
	//
	// A lease does not become shorter while its owner has it, since ExtendOrder does not
	// change the Version.
	//
	// Like CreateOrder, it stores the identifiers of valid authorizations for Authorized,
	// until the order's Expires. Those of authorizations that are no longer valid it
	// removes.
	UpdateOrder(ctx context.Context, o Order) error
	// CompleteOrder is UpdateOrder, and stores the certificate in the same transaction. It
	// returns ErrExists if a certificate has the same ID.
	CompleteOrder(ctx context.Context, o Order, c Certificate) error
	// ClaimOrders leases at most limit orders that are due at now and have no lease at
	// now. It takes them from the owners in turn, beginning with those that have the
	// fewest leases, and from each owner the earliest first. Their Version changes. An
	// order that is claimed stays due, so that it is continued when the lease ends. With
	// an error, there are no orders.
	ClaimOrders(ctx context.Context, owner string, now, until time.Time, limit int) ([]Order, error)
	// ExtendOrder extends a lease without a change of Version. It returns ErrStale if
	// another instance claimed the order, or the lease was given up.
	ExtendOrder(ctx context.Context, id, owner string, until time.Time) error
	// OrdersByShare returns the ID of the order of a Share that is Issuing, or an empty one,
	// and the IDs of at most limit others that are processing, in any order. For an empty
	// Share it returns nothing.
	OrdersByShare(ctx context.Context, share string, limit int) (issuing string, others []string, err error)
	// NextOrder returns the earliest time at which an order is due and not leased, or
	// ErrNotFound. A lease that ended before now does not count.
	NextOrder(ctx context.Context, now time.Time) (time.Time, error)
	// Authorized reports whether the account holds unexpired authorizations of all the
	// identifiers, wildcards with "*.". Without identifiers, it does not.
	Authorized(ctx context.Context, accountID string, identifiers []string, now time.Time) (bool, error)
}

// CertificateStorage stores certificates.
type CertificateStorage interface {
	CertificateByID(ctx context.Context, id string) (Certificate, error)
	// CertificatesByFingerprint returns all records of one certificate; several accounts
	// may have it. It returns none without an error.
	CertificatesByFingerprint(ctx context.Context, fingerprint string) ([]Certificate, error)
	// CertificateByARI returns the newest certificate with that ARI id.
	CertificateByARI(ctx context.Context, ariID string) (Certificate, error)
	// Uncollected returns the newest certificate of an order with that Share and KeyHash
	// that is not revoked, and that was created after a time if no client collected it, or
	// after joined if one did. Orders without a Share have none.
	Uncollected(ctx context.Context, share, keyHash string, after, joined time.Time) (Certificate, error)
	// SetCollected records that a client downloaded the certificate, in all its records:
	// who asks for another one then, does not want this one.
	SetCollected(ctx context.Context, id string) error
	// SetRevoked records the revocation of all records of a certificate. It returns
	// ErrExists if all were revoked already.
	SetRevoked(ctx context.Context, fingerprint string, at time.Time, reason int) error
}
