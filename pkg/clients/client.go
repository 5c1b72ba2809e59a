package clients

import "time"

// Client is an identity known to the proxy.
type Client struct {
	ID         string // assigned by the store
	Name       string // unique, chosen by the administrator
	Disabled   bool
	Recipients []string // age recipients in canonical form, each once
	Grants     []Grant
	CreatedAt  time.Time // set by the store
}
