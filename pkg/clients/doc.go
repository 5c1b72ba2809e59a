// Package clients defines clients, their grants and credentials, the identity of a
// caller, and the modes that a grant allows.
//
// It contains only values. Package policy decides about grants, package auth
// authenticates callers, and package store stores clients.
//
//	grant := clients.Grant{Names: []string{"*.web1.example.com"}, Modes: []clients.Mode{clients.ModeAgent}}
package clients
