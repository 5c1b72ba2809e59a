package managed

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Registration describes a managed certificate to register, and the conditions.
type Registration struct {
	Certificate
	// Pause limits the client's orders for these names.
	Pause Pause
	// Tries limits the client's attempts instead while the names fail. If zero, the
	// failures have no effect.
	Tries Tries
	// Limit is the number of managed certificates that the client may have; 0:
	// any number. Existing ones stay.
	Limit int
	// Holds reports whether a client retains a name that another client asks for. If
	// nil, it always does. It must be pure. The proxy retains one of its own names
	// only while it renews the name's certificate.
	Holds func(owner clients.Client, name string) bool
	// Audit creates the entry about a certificate that lost a name. It is stored
	// together with the change. If nil, nothing is recorded. It must be pure.
	Audit func(Superseded) trail.Entry
}

// Superseded is a managed certificate that lost a name to another client.
type Superseded struct {
	Certificate
	Owner clients.Client // owner of the certificate; the zero Client: the proxy itself
	Name  string         // name that passed to the other client
	To    clients.Client // new owner of the name; the zero Client: the proxy itself
}

// Pause limits how often a client can request one name set. It counts by client and
// name set only: another key type, profile or CSR changes nothing. Nor does deleting
// a certificate and registering it again. Automatic renewals do not count. The zero
// value sets no limit.
type Pause struct {
	Every time.Duration // one request in this time is due at once, others later
	Spare int           // further requests in that time that may be due at once
}
