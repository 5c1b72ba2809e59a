// Package issuer obtains certificates from the upstream CA (RFC 8555).
//
// It uses lego's acme/api for the messages and its own order flow: parallel
// authorizations, one poll of the order instead of one for each authorization,
// polling led by the responder's first hit, Retry-After always honoured, every
// wait bound to a context. One certificate costs seven requests, N names cost
// 2N+5.
//
//	ca, err := issuer.New(issuer.Config{DirectoryURL: url, Accounts: accounts, Solvers: solvers})
//	bundle, err := ca.Issue(ctx, cert.Request{Names: names}, nil)
//
// Solvers (pkg/challenge) prove control over names. Answers that would hide each
// other take turns, which costs one request each.
//
// It keeps no certificate and no key but the account's, and writes no name to a
// log.
package issuer
