package managed

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Registration asks for a managed certificate under conditions.
type Registration struct {
	Certificate
	// Pause bounds what the client orders for these names.
	Pause Pause
	// Limit is the number of managed certificates that the client may have; 0:
	// any number. Existing ones stay.
	Limit int
	// Holds reports whether a client keeps a name that another client asks for. If
	// nil, it always does. It must be pure. Of the proxy's own names only those
	// count whose certificate is renewed.
	Holds func(owner clients.Client, name string) bool
	// Audit creates the entry about a certificate that lost a name. It is stored
	// together with the change. If nil, nothing is recorded. It must be pure.
	Audit func(Superseded) trail.Entry
}

// Superseded is a managed certificate that lost a name to another client.
type Superseded struct {
	Certificate
	Owner clients.Client // of the certificate; the zero Client: the proxy itself
	Name  string         // the name that passed to the other client
	To    clients.Client // the zero Client: the proxy itself
}

// Pause bounds what a client can order for one name set by asking. It counts
// by client and name set only: another key type, profile or CSR, and a
// certificate that is deleted and registered again, change nothing. Renewals that
// fall due do not count. The zero value bounds nothing.
type Pause struct {
	Every        time.Duration // one request in this time is due at once, others later
	Spare        int           // further requests in that time that may be due at once
	AfterFailure time.Duration // least pause after a failed attempt
}
