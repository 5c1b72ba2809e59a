// Package acmeserver is an ACME server (RFC 8555) that other programs embed.
//
// The program supplies storage, an issuer and its rules, and mounts the [Server] under
// any path of its mux. The Server speaks the protocol: nonces, accounts, external account
// binding, orders, authorizations, challenges, finalization, certificates, revocation,
// key changes, and renewal information (RFC 9773).
//
//	server, err := acmeserver.New(acmeserver.Config{
//		URL:     "https://ca.example.com/acme",
//		Storage: acmeserver.NewMemory(),
//		Issuer:  ca, // such as one of package localca
//	})
//	if err != nil {
//		return err
//	}
//	mux.Handle("/acme/", server)
//	go server.Run(ctx) // validates challenges, and continues orders after a restart
//
// Run must have returned before the storage is closed. A Problem without a Status is
// answered with the status of its type.
//
// Several Servers, in one process or in several, may share one Storage. Each of them
// serves all requests.
//
// It must never issue before all identifiers of an order are authorized, trust the Host
// header for a URL, or accept a nonce twice. It never interprets what the issuer
// returns, apart from the certificate's names, key and dates.
package acmeserver
