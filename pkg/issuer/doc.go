// Package issuer obtains certificates from the upstream CA (RFC 8555).
//
// It uses lego's acme/api for the messages and its own order flow: parallel
// authorizations, one poll of the order instead of one for each authorization,
// polling led by the responder's first hit, Retry-After always honoured, every
// wait bound to a context. One certificate costs seven requests, N names cost
// 2N+5.
//
//	ca, err := issuer.New(issuer.Config{DirectoryURL: url, Accounts: accounts, Responder: r})
//	bundle, err := ca.Issue(ctx, cert.Request{Names: names}, nil)
//
// It keeps no certificate and no key but the account's, writes no name to a
// log, and is the only package that imports lego.
package issuer
