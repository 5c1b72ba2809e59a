package managed

import (
	"bytes"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// Certificate is a name set for which the proxy keeps a certificate renewed.
type Certificate struct {
	ID       string // assigned by the store
	ClientID string // owner; empty: the proxy itself
	Mode     clients.Mode
	Names    []string // canonical
	Name     string   // after which its folder on this host is called; empty: of a client or an older program
	KeyType  string
	Profile  string
	CSR      []byte // DER, if the client has the key

	DueAt       time.Time // time of the next attempt; zero: never
	PlannedAt   time.Time // the DueAt that a person's try replaced; zero: no try is pending
	LeaseOwner  string    // holder of the lease; empty: none
	LeaseUntil  time.Time
	Failures    int    // since the last success, without those of tries and of this host
	LastError   string // for the administrator
	LastPlain   string // the same for the client; empty: only the administrator may read it
	LastErrorAt time.Time
	WaitUntil   time.Time // earliest attempt that the CA allows; zero: it did not ask to wait

	ETag, Serial        string // of the current bundle; empty: none yet
	NotBefore, NotAfter time.Time
	RevokedAt           time.Time // of the current certificate; zero: it is not revoked

	CA               string    // directory URL of the CA that issued the current certificate; empty: unknown
	ARIID            string    // of the current certificate (RFC 9773, section 4.1); empty: unknown
	ARIStart, ARIEnd time.Time // when the CA suggests to renew; zero: unknown
	ARICheckAt       time.Time // when to ask the CA for a new suggestion; zero: never

	SupersededAt         time.Time // when one of its names passed to another client; zero: never
	CreatedAt, UpdatedAt time.Time // set by the store
}

// SameSpec reports whether both ask the CA for the same certificate, apart from
// their names.
func (m Certificate) SameSpec(o Certificate) bool {
	return m.KeyType == o.KeyType && m.Profile == o.Profile && bytes.Equal(m.CSR, o.CSR)
}

// IsFailing reports whether the last attempt failed.
func (m *Certificate) IsFailing() bool { return !m.LastErrorAt.IsZero() }

// IsAttempted reports whether an attempt is under way at that time.
func (m *Certificate) IsAttempted(now time.Time) bool { return now.Before(m.LeaseUntil) }

// IsDue reports whether an attempt begins as soon as there is a worker.
func (m *Certificate) IsDue(now time.Time) bool { return !m.DueAt.IsZero() && !now.Before(m.DueAt) }

// Due is a managed certificate that can be claimed.
type Due struct {
	ID       string
	ClientID string
	Turn     int // 0: the earliest of its client, 1: the next one, …
}
