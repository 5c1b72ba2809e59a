package acmems

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Caller describes the sender of a request before the body is read.
type Caller struct {
	// Addr is the remote address of the connection, not one of a header. IPv4 addresses are
	// in their 4-byte form, and there is no zone.
	Addr netip.Addr
	// MAC is the HMAC that the caller sent; the zero value if it sent none.
	MAC bodymac.MAC
}

// Denied reports that no block allows a request.
type Denied struct {
	// Reason is for the log and the audit trail, because it names blocks. It contains no
	// secret.
	Reason string
	// ForCaller names no block.
	ForCaller string
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
		return nil, &Denied{
			Reason:    "no [auth] block has this address and this kind of HMAC",
			ForCaller: "this address, or this kind of HMAC, may have nothing here; check the header " + bodymac.Header + ", or ask the administrator",
		}
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

// Accepted returns those of the possible blocks all of whose methods accept the request with
// this body, in their order. The HMAC covers the bytes of the body. The body need not be a
// CSR. If there is no such block, the error is a *Denied.
func (by Caller) Accepted(possible []*Block, body []byte) ([]*Block, error) {
	var accepted []*Block
	for _, b := range possible {
		if h := b.methods.hmac; h == nil || by.MAC.Verify(h.key, body) {
			accepted = append(accepted, b)
		}
	}
	if len(accepted) == 0 {
		const wrong = "the HMAC is wrong; check its key, and that it is computed from the file that is sent"
		return nil, &Denied{Reason: wrong, ForCaller: wrong}
	}
	return accepted, nil
}

// Choose returns the first of the accepted blocks that allows all names of a CSR. The error
// is a *Denied.
func Choose(accepted []*Block, names []string) (*Block, error) {
	for _, b := range accepted {
		if len(b.ungranted(names)) == 0 && len(names) > 0 {
			return b, nil
		}
	}
	return nil, deny(accepted, names)
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
func deny(accepted []*Block, names []string) *Denied {
	d := &Denied{Ungranted: names}
	var tried []string
	for _, b := range accepted {
		tried = append(tried, fmt.Sprintf("[auth %q]", printable.Line(b.Name)))
		d.Ungranted = b.ungranted(d.Ungranted)
	}
	at := strings.Join(tried, ", ")
	if len(d.Ungranted) == 0 {
		d.Reason = "no [auth] block allows all names together; each is allowed by one of " + at
		d.ForCaller = "these names are not allowed in one certificate; send a CSR for each of them, or ask the administrator"
		return d
	}
	d.Reason = "names that are not allowed by " + at
	d.ForCaller = "not allowed: " + strings.Join(d.Ungranted, " ") + "; leave them out, or ask the administrator"
	return d
}
