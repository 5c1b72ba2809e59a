// Package remote is acmeproxy inside the private network: it enrols at a proxy,
// gets certificates in agent or gateway mode, keeps them fresh on the disk and
// runs hooks. It only ever dials out.
//
//	state, err := remote.Open(dir, "acmeproxy/1.0")
//	getter, err := state.Getter(nil)
//	kept, err := getter.Get(ctx, remote.Wanted{Names: names, Mode: clients.ModeAgent, Out: "/etc/ssl/web1"})
//
// It trusts the proxy for delivery only. It checks all that comes over the wire
// against what was asked: the pinned key of the connection, the certificate's key
// and names, sizes. Local configuration alone decides where files go and which
// hooks run.
package remote
