package validation

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
	"github.com/acmeproxy/acmeproxy/pkg/publicip"
)

// Network describes how validators reach a client's servers. The zero value is usable: it
// asks the system's resolvers and connects to public addresses only. It must not change
// while a validator uses it.
type Network struct {
	// Resolvers are asked in turn, each host:port, until one answers. If empty, they are
	// those of the system. /etc/hosts is never used.
	Resolvers []string
	// Allow lists networks with addresses that are not public and may be connected to,
	// such as 10.0.0.0/8. An address with a cloud's metadata of the server itself is
	// allowed only by a prefix of that address alone.
	Allow []netip.Prefix
	// Timeout limits one attempt; 30 seconds if 0.
	Timeout time.Duration
	// Attempts is how often the validators try before they refuse; 3 if 0. Servers and
	// name servers of a client may still be busy with the last change.
	Attempts int
	// HTTPPort and TLSPort replace the ports 80 and 443, for tests; those if 0.
	HTTPPort, TLSPort int
	// UserAgent is sent with HTTP requests; "acmeserver" if empty.
	UserAgent string
}

// Bounds of one attempt.
const (
	defaultTimeout  = 30 * time.Second
	connectTimeout  = 4 * time.Second // to one address
	maxOfFamily     = 3               // addresses of IPv6, and of IPv4
	defaultAttempts = 3
)

// PrivateNetworks returns the private networks of RFC 1918, RFC 4193 and RFC 6598, for
// Network.Allow. Loopback and link-local addresses are not among them.
func PrivateNetworks() []netip.Prefix {
	return []netip.Prefix{
		netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"),
		netip.MustParsePrefix("192.168.0.0/16"), netip.MustParsePrefix("100.64.0.0/10"),
		netip.MustParsePrefix("fc00::/7"),
	}
}

// metadata lists the addresses at which clouds serve secrets to their machines. Some are
// in private or public networks.
var metadata = []netip.Addr{
	netip.MustParseAddr("169.254.169.254"), // most clouds
	netip.MustParseAddr("169.254.170.2"),   // containers at Amazon
	netip.MustParseAddr("169.254.170.23"),
	netip.MustParseAddr("fd00:ec2::254"), // Amazon
	netip.MustParseAddr("fd00:ec2::23"),
	netip.MustParseAddr("fd20:ce::254"),    // Google
	netip.MustParseAddr("100.100.100.200"), // Alibaba
	netip.MustParseAddr("168.63.129.16"),   // Azure
	netip.MustParseAddr("192.0.0.192"),     // Oracle
}

// allows reports whether validators may connect to an address.
func (n *Network) allows(addr netip.Addr) bool {
	addr = addr.Unmap()
	isMetadata := slices.Contains(metadata, addr)
	if !isMetadata && publicip.Special(addr) == "" {
		return true
	}
	return slices.ContainsFunc(n.Allow, func(p netip.Prefix) bool {
		return p.Contains(addr) && (!isMetadata || p.IsSingleIP())
	})
}

// forName refuses wildcards, which only DNS can prove (RFC 8555, section 8.3, and RFC
// 8737, section 3).
func forName(v acmeserver.Validation) *fault {
	if v.Wildcard {
		return &fault{kind: acme.Malformed, detail: v.Type + " cannot prove a wildcard; use dns-01", final: true}
	}
	return nil
}

// attempt runs one attempt within the time limit. It returns what acmeserver.Validator
// demands: the problem only if this was the last attempt, or if another cannot help.
func (n *Network) attempt(ctx context.Context, v acmeserver.Validation, check func(context.Context) *fault) error {
	limited, cancel := context.WithTimeout(ctx, cmp.Or(n.Timeout, defaultTimeout))
	defer cancel()
	f := check(limited)
	switch {
	case f == nil:
		return nil
	case ctx.Err() != nil:
		return ctx.Err() // the server stops, which is no fault of the client
	case !f.final && v.Attempts+1 < cmp.Or(n.Attempts, defaultAttempts):
		return &acmeserver.Later{Reason: f.Error()}
	}
	return &acme.Problem{Type: f.kind, Detail: f.detail}
}

// fault is why an attempt failed. Clients read it.
type fault struct {
	kind   string // problem type
	detail string
	final  bool // another attempt cannot help
}

func (f *fault) Error() string { return acme.ShortType(f.kind) + ": " + f.detail }

// addresses returns where to connect for a host, IPv6 first, without those that are not
// allowed.
func (n *Network) addresses(ctx context.Context, host string) ([]netip.Addr, *fault) {
	if addr, err := netip.ParseAddr(host); err == nil {
		if addr.Zone() != "" || !n.allows(addr) {
			return nil, &fault{kind: acme.Connection, detail: "this server does not connect to that address", final: true}
		}
		return []netip.Addr{addr}, nil
	}
	var v6, v4 []netip.Addr
	var f, f4 *fault
	var both sync.WaitGroup
	both.Go(func() { v6, f = n.lookup(ctx, host, dns.TypeAAAA) })
	both.Go(func() { v4, f4 = n.lookup(ctx, host, dns.TypeA) })
	both.Wait()
	all := slices.Concat(v6, v4)
	switch {
	case len(all) == 0 && f4 != nil:
		return nil, f4
	case len(all) == 0 && f != nil:
		return nil, f
	case len(all) == 0:
		return nil, &fault{kind: acme.DNS, detail: "the name has no address in DNS"}
	}
	all = slices.DeleteFunc(all, func(addr netip.Addr) bool { return !n.allows(addr) })
	if len(all) == 0 {
		return nil, &fault{kind: acme.DNS, detail: "the name has no address in DNS that this server connects to"}
	}
	return all, nil
}

// lookup returns a bounded number of addresses of a name.
func (n *Network) lookup(ctx context.Context, host string, kind uint16) (addrs []netip.Addr, f *fault) {
	records, f := n.ask(ctx, host, kind)
	for _, rr := range records {
		var addr netip.Addr
		switch rr := rr.(type) {
		case *dns.A:
			addr, _ = netip.AddrFromSlice(rr.A.To4())
		case *dns.AAAA:
			addr, _ = netip.AddrFromSlice(rr.AAAA.To16())
		}
		if addr.IsValid() && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs[:min(len(addrs), maxOfFamily)], f
}

// ask returns the records of a name. A name that does not exist is a fault.
func (n *Network) ask(ctx context.Context, name string, kind uint16) ([]dns.RR, *fault) {
	resolvers := n.Resolvers
	if len(resolvers) == 0 {
		var err error
		if resolvers, err = dnsquery.SystemResolvers(); err != nil {
			return nil, &fault{kind: acme.DNS, detail: "this server has no DNS resolver"}
		}
	}
	question := dnsquery.Question{Name: dns.Fqdn(name), Type: kind, Recursive: true, Timeout: connectTimeout}
	answer, err := dnsquery.AskFirst(ctx, resolvers, question)
	var refused *dnsquery.RcodeError
	switch {
	case errors.As(err, &refused):
		return nil, &fault{kind: acme.DNS, detail: "the question for " + dns.TypeToString[kind] + " records is answered with " + dnsquery.RcodeText(refused.Rcode)}
	case errors.Is(err, dnsquery.ErrAliases):
		return nil, &fault{kind: acme.DNS, detail: "the CNAME records of the name have no end"}
	case err != nil:
		return nil, &fault{kind: acme.DNS, detail: "the question for " + dns.TypeToString[kind] + " records is not answered"}
	case answer.Rcode == dns.RcodeNameError:
		return nil, &fault{kind: acme.DNS, detail: "DNS has no such name"}
	}
	return answer.Records, nil
}

// connect connects to the first address of a host that accepts a connection.
func (n *Network) connect(ctx context.Context, host, port string) (net.Conn, *fault) {
	addrs, f := n.addresses(ctx, host)
	if f != nil {
		return nil, f
	}
	port = n.realPort(port)
	for _, addr := range addrs {
		var conn net.Conn
		if conn, f = n.dial(ctx, addr, port); f == nil {
			return conn, nil
		}
	}
	if len(addrs) > 1 {
		f.detail = "no address of the name accepts a connection; the last one: " + f.detail
	}
	return nil, f
}

// dial connects to one address, which it checks once more: nothing may connect without.
func (n *Network) dial(ctx context.Context, addr netip.Addr, port string) (net.Conn, *fault) {
	if !n.allows(addr) {
		return nil, &fault{kind: acme.Connection, detail: "this server does not connect to that address", final: true}
	}
	d := net.Dialer{Timeout: connectTimeout}
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(addr.String(), port))
	if err != nil {
		return nil, &fault{kind: acme.Connection, detail: describe(err)}
	}
	return conn, nil
}

// realPort returns the port for a test instead of 80 or 443.
func (n *Network) realPort(port string) string {
	switch {
	case port == "80" && n.HTTPPort != 0:
		return strconv.Itoa(n.HTTPPort)
	case port == "443" && n.TLSPort != 0:
		return strconv.Itoa(n.TLSPort)
	}
	return port
}

// describe returns the kind of a network error, without addresses.
func describe(err error) string {
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return "there is no answer in time"
	case isRefused(err):
		return "the connection is refused"
	}
	return "the connection fails"
}
