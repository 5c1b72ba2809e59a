// Package trail defines the entries of the audit trail.
//
// It contains only values. Package audit decides what is recorded, and package store
// stores it.
//
//	trail.Entry{ClientName: "web1", Action: "request", Outcome: trail.Allowed}
package trail

import (
	"net/netip"
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

// Entry is one record of the audit trail. Its texts may come from an unknown caller.
// The store replaces characters that its database cannot store, so that no request
// can avoid being recorded.
type Entry struct {
	ID         int64     // in the order of insertion, assigned by the store
	At         time.Time // zero: now
	ClientID   string    // empty for an unknown caller
	ClientName string
	Addr       string
	Action     string
	Mode       clients.Mode // empty if the entry concerns no mode
	Names      []string
	Outcome    string // Allowed, Refused, Done or Failed
	Detail     string
}

// Query selects entries; a zero field selects all.
type Query struct {
	Client  string // name of the client
	Outcome string
	Name    string    // one of the entry's Names, canonical
	Since   time.Time // entries of this time and later
	Before  int64     // entries older than this id
	Limit   int       // 0: 100
}

// By returns an entry about what a caller does, without an outcome.
func By(id clients.Identity, action string) Entry {
	return Entry{ClientID: id.Client.ID, ClientName: id.Client.Name, Addr: Address(id.Addr), Action: action}
}

// Address returns the text of a caller's address; empty for a unix socket.
func Address(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}
