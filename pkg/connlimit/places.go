package connlimit

import (
	"net/netip"
	"sync"
)

// Places limits the requests of strangers that are in progress. An address gets no
// more places than are left for all others, so half of all places at most. If many
// addresses take all they can, the next address can still get as many as each of
// them has. All addresses of an IPv6 /48, the usual prefix of one site, together get
// no more than one address.
type Places struct {
	total int

	mu     sync.Mutex // guards the fields below
	used   int
	byAddr map[netip.Prefix]int // by IPv4 address, IPv6 /64 and IPv6 /48; never 0
}

// NewPlaces returns Places for total requests.
func NewPlaces(total int) *Places {
	return &Places{total: total, byAddr: make(map[netip.Prefix]int)}
}

// Take takes a place for a request of addr. The caller must call release once. Take
// reports false if no place is available for that address.
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

// networksOf returns the prefixes of addr whose places are limited.
func networksOf(addr netip.Addr) []netip.Prefix {
	network := Network(addr)
	if !network.Addr().Is6() {
		return []netip.Prefix{network}
	}
	site := netip.PrefixFrom(network.Addr(), 48).Masked()
	return []netip.Prefix{network, site}
}
