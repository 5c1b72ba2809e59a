package proxy

import "context"

// IsOwn spares a test the interfaces of its host.
var IsOwn = isOwn

// RecheckOwn does what the proxy does once a minute after a check of its hostname failed.
func (p *Proxy) RecheckOwn(ctx context.Context) { p.recheckOwn(ctx) }
