package connlimit

import (
	"net/netip"
	"sync"
)

// Places limits how many requests of strangers are in progress. An address may
// have no more of them than are left free for all others. So one address gets
// half of all places at most, and however many addresses take what they can, as
// much as each of them has is left for the next.
type Places struct {
	total int

	mu     sync.Mutex // guards what follows
	used   int
	byAddr map[netip.Prefix]int // no zeros
}

// NewPlaces returns so many places.
func NewPlaces(total int) *Places {
	return &Places{total: total, byAddr: make(map[netip.Prefix]int)}
}

// Take takes a place for a request of addr until release is called, once. It
// reports false if there is none for that address.
func (p *Places) Take(addr netip.Addr) (release func(), ok bool) {
	network := Network(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byAddr[network] >= p.total-p.used {
		return nil, false
	}
	p.used++
	p.byAddr[network]++
	return func() { p.release(network) }, true
}

func (p *Places) release(network netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	if p.byAddr[network]--; p.byAddr[network] == 0 {
		delete(p.byAddr, network)
	}
}
