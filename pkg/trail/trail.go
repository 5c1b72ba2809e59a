// Package trail holds the entries of the audit trail.
//
// It holds values only. Package audit decides what is recorded, package store
// stores.
//
//	trail.Entry{ClientName: "web1", Action: "request", Outcome: trail.Allowed}
package trail

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// The outcomes of an entry.
const (
	Allowed = "allowed"
	Refused = "refused"
	Done    = "done"
	Failed  = "failed"
)

// Admin is the Addr of the administrator's entries.
const Admin = "admin"

// Entry is one record of the audit trail. Its texts may come from a stranger:
// the store replaces what its database cannot hold, so that no request can avoid
// being recorded.
type Entry struct {
	ID         int64     // in the order of insertion, assigned by the store
	At         time.Time // zero: now
	ClientID   string    // empty for a stranger
	ClientName string
	Addr       string
	Action     string
	Mode       clients.Mode // empty: of no mode
	Names      []string
	Outcome    string // Allowed, Refused, Done or Failed
	Detail     string
}

// Query selects entries; a zero field selects all.
type Query struct {
	Client  string // name of the client
	Outcome string
	Before  int64 // entries older than this id
	Limit   int   // 0: 100
}
