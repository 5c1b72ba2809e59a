// Package remote is acmeproxy inside the private network: it enrols at a proxy,
// gets certificates in agent or gateway mode, keeps them fresh on the disk and
// runs hooks. It only ever dials out.
//
//	state, err := remote.Open(dir)
//	client, err := state.Client(logger)
//	bundle, err := client.Issue(ctx, cert.Request{Names: names}, nil) // gateway
//
// It trusts the proxy for delivery only. Whatever comes over the wire is held
// against what was asked: the pinned key of the connection, the certificate's
// key and names, sizes. Where files go and what hooks run is decided by local
// configuration alone.
package remote
