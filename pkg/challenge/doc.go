// Package challenge proves control over names: it publishes the answers to a CA's
// challenges and removes them (RFC 8555, section 8).
//
// A Solver answers challenges of one type: HTTP-01 from memory, by files below a
// webroot or through a command, TLS-ALPN-01 from memory. DNS-01 is in dns01. One
// process opens each solver once, for all its CAs, and closes it when it ends. Types
// returns which types of challenge can prove control over a name.
//
//	solver := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: r})
//	answer, err := solver.Present(ctx, challenge.Challenge{Name: name, Token: token, KeyAuthorization: text})
//	defer answer.Remove()
//
// The package never connects to a CA and never logs a name or a token. It publishes
// only what a CA gave.
package challenge
