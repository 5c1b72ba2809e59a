// Package proxy assembles the DMZ process and runs it: it is the only package
// that knows all the others.
//
//	p, err := proxy.New(ctx, proxy.Config{Serve: settings, Logger: logger})
//	err = p.Run(ctx) // until ctx ends
//
// A Proxy owns what lasts: ports, store, identity, limits. What settings decide,
// such as the CA, solvers, modes and hooks, is a generation. Replace swaps in
// another one while requests are in flight.
//
// New either returns a process whose ports, files and database are all open,
// or an error with nothing left behind. It orders nothing; Run does.
package proxy
