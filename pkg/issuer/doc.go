// Package issuer obtains certificates from upstream CAs (RFC 8555).
//
// It uses lego's acme/api for the messages and its own order flow. Authorizations
// run in parallel. It polls the order, not each authorization, and polls first when
// the responder sees the CA's fetch. It always honours Retry-After, and every wait
// ends with its context. One certificate costs seven requests, N names cost 2N+5.
//
//	pool, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
//		DirectoryURL: url, Accounts: accounts, Solvers: solvers,
//	}}})
//	bundle, err := pool.Issue(ctx, cert.Request{Names: names}, nil)
//
// A CA is one directory and one account. A Pool chooses a CA by name and shares places
// between clients. If a client requests the same certificate twice at the same time,
// the Pool obtains it once.
//
// Solvers (pkg/challenge) prove control over names. Answers that would hide each
// other take turns, which costs one request each.
//
// The package stores no certificate and no key except the account's. It writes no
// name to a log.
package issuer
