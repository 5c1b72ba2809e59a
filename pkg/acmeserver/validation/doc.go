// Package validation has ready-made validators for package acmeserver: http-01 and dns-01
// (RFC 8555, section 8), and tls-alpn-01 (RFC 8737). http-01 and tls-alpn-01 also validate
// IP addresses (RFC 8738).
//
//	network := validation.Network{Allow: validation.PrivateNetworks()}
//	server, err := acmeserver.New(acmeserver.Config{
//		Validators: validation.All(network),
//		…
//	})
//
// The validators connect where clients ask them to, so they are a way into the server's
// own network. They connect to public addresses only, unless Network.Allow has others.
// Each address is checked when it is used, also that of a redirect. A problem for a client
// contains nothing that another server answered, and no address.
//
// They validate from one place, and do not check CAA records (RFC 8659). A public CA must
// do both itself.
package validation
