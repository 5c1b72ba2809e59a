// Package clients holds who may request certificates: clients, their grants and
// credentials, the identity of a caller, and the modes that a grant allows.
//
// It holds values only. Package policy decides about grants, package auth
// authenticates, package store stores.
//
//	grant := clients.Grant{Names: []string{"*.web1.example.com"}, Modes: []clients.Mode{clients.ModeAgent}}
package clients
