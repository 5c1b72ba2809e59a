// Package issuer obtains certificates from upstream CAs (RFC 8555).
//
// It uses lego's acme/api for the messages and its own order flow: parallel
// authorizations, one poll of the order instead of one for each authorization,
// polling led by the responder's first hit, Retry-After always honoured, every
// wait bound to a context. One certificate costs seven requests, N names cost
// 2N+5.
//
//	pool, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
//		DirectoryURL: url, Accounts: accounts, Solvers: solvers,
//	}}})
//	bundle, err := pool.Issue(ctx, cert.Request{Names: names}, nil)
//
// A CA is one directory and one account. A Pool chooses a CA by name, shares places
// between clients, and obtains a certificate once that a client requests twice at the
// same time.
//
// Solvers (pkg/challenge) prove control over names. Answers that would hide each
// other take turns, which costs one request each.
//
// It keeps no certificate and no key but the account's, and writes no name to a
// log.
package issuer
