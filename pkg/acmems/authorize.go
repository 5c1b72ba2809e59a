package acmems

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Caller is what is known about a request before its body is read.
type Caller struct {
	// Addr is the remote address of the connection, not one of a header. IPv4 addresses are
	// in their 4-byte form, and there is no zone.
	Addr netip.Addr
	// MAC is the HMAC that the caller sent; the zero value if it sent none.
	MAC bodymac.MAC
}

// Denied reports that no block allows a request. Its text is for the log and the audit
// trail, because it names blocks. It contains no secret.
type Denied struct {
	Reason string
	// Ungranted holds the names that no block allows to this caller, if names are the reason.
	Ungranted []string
}

func (d *Denied) Error() string { return d.Reason }

// Possible returns the blocks that may allow a request, in their order. It is the cheap part
// of the decision: of an HMAC, only its type is known before the body. If there is no such
// block, the error is a *Denied.
func (c *Config) Possible(by Caller) ([]*Block, error) {
	var blocks []*Block
	for i := range c.Blocks {
		if b := &c.Blocks[i]; len(b.domains) > 0 && b.methods.mayAccept(by) {
			blocks = append(blocks, b)
		}
	}
	if len(blocks) == 0 {
		return nil, &Denied{Reason: "no [auth] block has this address and this kind of HMAC"}
	}
	return blocks, nil
}

func (m methods) mayAccept(by Caller) bool {
	return (m.ip == nil || m.hasAddr(by.Addr)) && (m.hmac == nil || by.MAC.Type == m.hmac.kind)
}

func (m methods) hasAddr(addr netip.Addr) bool {
	for _, n := range m.ip {
		if n.contains(addr) {
			return true
		}
	}
	return false
}

// Choose returns the first of the possible blocks that allows the request. It must allow all
// names of the CSR in body. The HMAC covers the bytes of body. The error is a *Denied.
func (by Caller) Choose(possible []*Block, body []byte, names []string) (*Block, error) {
	var accepting []*Block
	for _, b := range possible {
		if h := b.methods.hmac; h != nil && !by.MAC.Verify(h.key, body) {
			continue
		}
		if len(b.ungranted(names)) == 0 && len(names) > 0 {
			return b, nil
		}
		accepting = append(accepting, b)
	}
	if len(accepting) == 0 {
		return nil, &Denied{Reason: "the HMAC is not that of an [auth] block; check its key, and that it is computed from the file that is sent"}
	}
	return nil, deny(accepting, names)
}

// ungranted returns the names that the block does not allow. It never allows an address.
func (b *Block) ungranted(names []string) (denied []string) {
	for _, name := range names {
		if _, err := netip.ParseAddr(name); err == nil || !matchesAny(b.domains, name) {
			denied = append(denied, name)
		}
	}
	return denied
}

// deny returns why the blocks that accept the caller do not allow the names.
func deny(accepting []*Block, names []string) *Denied {
	d := &Denied{Ungranted: names}
	var tried []string
	for _, b := range accepting {
		tried = append(tried, fmt.Sprintf("[auth %q]", printable.Line(b.Name)))
		d.Ungranted = b.ungranted(d.Ungranted)
	}
	at := strings.Join(tried, ", ")
	if len(d.Ungranted) == 0 {
		d.Reason = "no [auth] block allows all names together; each is allowed by one of " + at
		return d
	}
	d.Reason = "names that are not allowed by " + at
	return d
}
