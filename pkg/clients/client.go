package clients

import "time"

// Client describes a client that the proxy knows.
type Client struct {
	ID         string // assigned by the store
	Name       string // unique, chosen by the administrator
	Disabled   bool
	Recipients []string // age recipients in canonical form, each once
	Grants     []Grant
	CreatedAt  time.Time // set by the store
}
