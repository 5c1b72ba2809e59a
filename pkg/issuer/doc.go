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
// How a name is proven is a solver's business (solver.go): HTTP-01 from memory or
// by files, TLS-ALPN-01, DNS-01 by dynamic updates (pkg/dnsupdate) or through one
// of lego's providers. Answers that would get into each other's way take turns,
// which costs one request each.
//
// It keeps no certificate and no key but the account's, writes no name to a
// log, and is the only package that imports lego.
package issuer
