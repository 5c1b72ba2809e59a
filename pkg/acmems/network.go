package acmems

import (
	"errors"
	"net/netip"
	"strconv"
	"strings"
)

// network is a range of addresses of one family.
type network struct {
	text        string // as in the file
	first, last netip.Addr
}

func (n network) contains(a netip.Addr) bool {
	return a.Is4() == n.first.Is4() && a.Compare(n.first) >= 0 && a.Compare(n.last) <= 0
}

var (
	errNetwork = errors.New("not an address or a network; write one such as 192.0.2.21, 192.0.2.0/24 or 2001:db8::/32")
	errBits    = errors.New("its address has bits beyond the length of the network; write the first address of the network")
)

// parseNetwork reads an address, a network or a range of IPv4 addresses, in the forms of the
// library IPy: also 10/8, 192.0.2.0/255.255.255.0 and 192.0.2.0-192.0.2.255.
func parseNetwork(text string) (network, error) {
	if from, to, ok := strings.Cut(text, "-"); ok {
		first, err1 := parseAddr(from)
		last, err2 := parseAddr(to)
		if err1 != nil || err2 != nil || !first.Is4() || !last.Is4() || last.Less(first) {
			return network{}, errNetwork
		}
		return network{text, first, last}, nil
	}
	host, length, hasLength := strings.Cut(text, "/")
	addr, err := parseAddr(host)
	if err != nil {
		return network{}, errNetwork
	}
	if !hasLength {
		return network{text, addr.Unmap(), addr.Unmap()}, nil
	}
	bits, err := parseLength(length)
	if err != nil {
		return network{}, err
	}
	prefix := netip.PrefixFrom(addr, bits)
	switch {
	case !prefix.IsValid(), addr.Is4In6() && bits < 96:
		return network{}, errNetwork
	case prefix.Masked() != prefix:
		return network{}, errBits
	}
	return network{text, addr.Unmap(), lastOf(prefix).Unmap()}, nil
}

// parseAddr reads an address. An IPv4 address may lack its last bytes, which are then 0.
func parseAddr(text string) (netip.Addr, error) {
	if text == "" || strings.Contains(text, "%") {
		return netip.Addr{}, errNetwork
	}
	if !strings.Contains(text, ":") {
		for dots := strings.Count(text, "."); dots < 3; dots++ {
			text += ".0"
		}
	}
	return netip.ParseAddr(text)
}

// parseLength reads a number of bits, or a netmask of IPv4.
func parseLength(text string) (int, error) {
	if !strings.Contains(text, ".") {
		bits, err := strconv.ParseUint(text, 10, 8)
		if err != nil {
			return 0, errNetwork
		}
		return int(bits), nil
	}
	mask, err := netip.ParseAddr(text)
	if err != nil || !mask.Is4() {
		return 0, errNetwork
	}
	for bits := range 33 {
		if netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), bits).Masked().Addr() == mask {
			return bits, nil
		}
	}
	return 0, errNetwork
}

// lastOf returns the highest address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	last, _ := netip.AddrFromSlice(b)
	return last
}
