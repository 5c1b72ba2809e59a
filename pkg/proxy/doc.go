// Package proxy assembles the DMZ process and runs it: it is the only package
// that knows all the others.
//
//	p, err := proxy.New(ctx, proxy.Config{Serve: settings, Logger: logger})
//	err = p.Run(ctx) // until ctx ends
//
// New either returns a process whose ports, files and database are all open,
// or an error with nothing left behind. It orders nothing; Run does.
package proxy
