// Package tunnel passes a CA's requests for HTTP-01 answers (RFC 8555, section 8.3) on
// to hosts that the CA cannot reach. Those hosts dial out: each holds a stream open, gets
// questions over it, and answers them in requests of its own. So an ACME client inside
// needs to know nothing of the proxy.
//
// Nothing but a well-formed token of a name goes in, and nothing but the key
// authorization of that token comes out. A question has no path, header or body of the
// stranger who asked, and all of its answer is checked.
//
//	hub := tunnel.New(tunnel.Config{})
//	stream := hub.Open(clientID, []string{"app.example.com"}) // for a host inside
//	answer, ok := hub.Ask(ctx, addr, "app.example.com", token) // for port 80
package tunnel
