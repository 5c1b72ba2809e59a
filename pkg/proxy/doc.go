// Package proxy assembles and runs the DMZ process. It is the only package that
// imports all the others.
//
//	p, err := proxy.New(ctx, proxy.Config{Serve: settings, Logger: logger})
//	err = p.Run(ctx) // until ctx is done
//
// A Proxy owns the ports, the store, the identity and the limits for its lifetime. A
// generation holds everything that settings can change, such as the CA, solvers,
// modes and hooks. Replace swaps in another generation while requests are in flight.
//
// New returns a process whose ports, files and database are all open. On an error it
// leaves nothing open. It must never order a certificate; only Run does.
package proxy
