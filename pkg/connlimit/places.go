package connlimit

import (
	"net/netip"
	"sync"
)

// Places limits how many requests of strangers are in progress. An address may
// have no more of them than are left free for all others. So one address gets
// half of all places at most, and however many addresses take what they can, as
// much as each of them has is left for the next. All addresses of an IPv6 /48,
// which is what one site has, get no more than one address does.
type Places struct {
	total int

	mu     sync.Mutex // guards what follows
	used   int
	byAddr map[netip.Prefix]int // by IPv4 address, IPv6 /64 and IPv6 /48; no zeros
}

// NewPlaces returns so many places.
func NewPlaces(total int) *Places {
	return &Places{total: total, byAddr: make(map[netip.Prefix]int)}
}

// Take takes a place for a request of addr until release is called, once. It
// reports false if there is none for that address.
func (p *Places) Take(addr netip.Addr) (release func(), ok bool) {
	networks := networksOf(addr)
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range networks {
		if p.byAddr[n] >= p.total-p.used {
			return nil, false
		}
	}
	p.used++
	for _, n := range networks {
		p.byAddr[n]++
	}
	return func() { p.release(networks) }, true
}

func (p *Places) release(networks []netip.Prefix) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used--
	for _, n := range networks {
		if p.byAddr[n]--; p.byAddr[n] == 0 {
			delete(p.byAddr, n)
		}
	}
}

// networksOf returns those that have a share.
func networksOf(addr netip.Addr) []netip.Prefix {
	network := Network(addr)
	if !network.Addr().Is6() {
		return []netip.Prefix{network}
	}
	site := netip.PrefixFrom(network.Addr(), 48).Masked()
	return []netip.Prefix{network, site}
}
