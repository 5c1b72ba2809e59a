// Package remote is the part of acmeproxy that runs in the private network. It
// enrols at a proxy, gets certificates in agent or gateway mode, renews them on the
// disk and runs hooks. It makes outbound connections only.
//
//	state, err := remote.Open(dir, "acmeproxy/1.0")
//	getter, err := state.Getter(nil)
//	kept, err := getter.Get(ctx, remote.Wanted{Names: names, Mode: clients.ModeAgent, Out: "/etc/ssl/web1"})
//
// A certificate has a stored name, which stays if its identifiers change, and a folder
// of its own.
//
// It trusts the proxy for delivery only. It checks each answer against the request:
// the pinned key of the connection, the certificate's key and names, sizes. Only
// local configuration decides where files are written and which hooks run.
package remote
