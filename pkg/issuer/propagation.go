package issuer

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// Whom to ask whether a TXT record is there.
const (
	PropagationNameservers = "nameservers" // every name server of the zone
	PropagationResolvers   = "resolvers"   // the resolvers, where no other DNS can be reached
	PropagationNone        = "none"        // nobody: the CA is told at once
)

const (
	queryTimeout = 5 * time.Second // of one question
	firstLook    = 50 * time.Millisecond
	maxCNAMEs    = 10
)

// propagation tells when a TXT record can be seen. In place of lego's check,
// which cannot be cancelled.
type propagation struct {
	whom      string
	resolvers []string // host:port
	port      string   // of the zones' name servers
}

func newPropagation(cfg DNS) (*propagation, error) {
	p := &propagation{whom: cfg.Propagation, resolvers: cfg.Resolvers, port: cfg.Port}
	if p.whom == "" {
		p.whom = PropagationNameservers
	}
	if p.port == "" {
		p.port = "53"
	}
	if len(p.resolvers) > 0 {
		return p, nil
	}
	system, err := dns.ClientConfigFromFile("/etc/resolv.conf")
	if err != nil || len(system.Servers) == 0 {
		if p.whom == PropagationNone {
			return p, nil
		}
		return nil, errors.New("dns-resolver: this system has none in /etc/resolv.conf; name one, such as 192.0.2.53")
	}
	for _, server := range system.Servers {
		p.resolvers = append(p.resolvers, net.JoinHostPort(server, system.Port))
	}
	return p, nil
}

// dnsValue is what a challenge's TXT record holds (RFC 8555, section 8.4).
func dnsValue(c challenge) string {
	digest := sha256.Sum256([]byte(c.keyAuthorization))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// wait looks until the value is there, at most for timeout; the first looks
// come soon, later ones after interval.
func (p *propagation) wait(ctx context.Context, name, value string, timeout, interval time.Duration) error {
	if p.whom == PropagationNone {
		return nil
	}
	looking, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for pause := firstLook; ; pause = min(pause*2, max(interval, firstLook)) {
		err := p.look(looking, name, value)
		if err == nil {
			return nil
		}
		if looking.Err() == nil || last == nil {
			last = err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
			continue
		case <-looking.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &Error{
			Kind: Temporary, Op: "wait for the TXT record of",
			Detail: fmt.Sprintf("after %v %v; see to your DNS provider, give it more time (*_PROPAGATION_TIMEOUT), or choose whom to ask with --dns-propagation", timeout, last),
			Err:    last,
		}
	}
}

// look tells whether the value is there now.
func (p *propagation) look(ctx context.Context, name, value string) error {
	if p.whom == PropagationResolvers {
		for _, resolver := range p.resolvers {
			if err := hasTXT(ctx, resolver, name, value, true); err != nil {
				return err
			}
		}
		return nil
	}
	name, err := p.follow(ctx, name)
	if err != nil {
		return err
	}
	servers, err := p.nameservers(ctx, name)
	if err != nil {
		return err
	}
	for _, server := range servers {
		if err := p.atServer(ctx, server, name, value); err != nil {
			return err
		}
	}
	return nil
}

// follow goes along CNAMEs, by which others' challenges are delegated.
func (p *propagation) follow(ctx context.Context, name string) (string, error) {
	for range maxCNAMEs {
		answer, err := p.resolve(ctx, name, dns.TypeCNAME)
		if err != nil {
			return "", err
		}
		i := slices.IndexFunc(answer.Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeCNAME && strings.EqualFold(rr.Header().Name, name)
		})
		if i < 0 {
			return name, nil
		}
		name = answer.Answer[i].(*dns.CNAME).Target
	}
	return "", errors.New("its CNAMEs have no end")
}

// nameservers are those of the zone that holds the name: the first label from
// the left, so to speak, that has a start of authority.
func (p *propagation) nameservers(ctx context.Context, name string) ([]string, error) {
	for _, i := range dns.Split(name) {
		zone := name[i:]
		answer, err := p.resolve(ctx, zone, dns.TypeSOA)
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(answer.Answer, func(rr dns.RR) bool {
			return rr.Header().Rrtype == dns.TypeSOA && strings.EqualFold(rr.Header().Name, zone)
		}) {
			continue
		}
		if answer, err = p.resolve(ctx, zone, dns.TypeNS); err != nil {
			return nil, err
		}
		var servers []string
		for _, rr := range answer.Answer {
			if ns, ok := rr.(*dns.NS); ok {
				servers = append(servers, ns.Ns)
			}
		}
		if len(servers) == 0 {
			return nil, fmt.Errorf("the zone %s has no name servers", zone)
		}
		return servers, nil
	}
	return nil, fmt.Errorf("no zone is found for %s", name)
}

// atServer asks one name server, at whichever of its addresses answers.
func (p *propagation) atServer(ctx context.Context, server, name, value string) error {
	var addrs []string
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := p.resolve(ctx, server, kind)
		if err != nil {
			return err
		}
		for _, rr := range answer.Answer {
			switch a := rr.(type) {
			case *dns.A:
				addrs = append(addrs, a.A.String())
			case *dns.AAAA:
				addrs = append(addrs, a.AAAA.String())
			}
		}
	}
	err := fmt.Errorf("the name server %s has no address", server)
	for _, addr := range addrs {
		err = hasTXT(ctx, net.JoinHostPort(addr, p.port), name, value, false)
		if !errors.Is(err, errUnreachable) {
			return err
		}
	}
	return err
}

// resolve asks the resolvers, one after the other until one answers.
func (p *propagation) resolve(ctx context.Context, name string, kind uint16) (answer *dns.Msg, err error) {
	err = errNoResolver
	for _, resolver := range p.resolvers {
		if answer, err = query(ctx, resolver, name, kind, true); err == nil {
			return answer, nil
		}
	}
	return nil, err
}

func hasTXT(ctx context.Context, server, name, value string, recursive bool) error {
	answer, err := query(ctx, server, name, dns.TypeTXT, recursive)
	if err != nil {
		return err
	}
	for _, rr := range answer.Answer {
		if txt, ok := rr.(*dns.TXT); ok && strings.Join(txt.Txt, "") == value {
			return nil
		}
	}
	return fmt.Errorf("%s does not have it yet", server)
}

var (
	errUnreachable = errors.New("does not answer")
	errNoResolver  = errors.New("there is no resolver to ask")
)

// query asks one server one question, over TCP when the answer is long. ctx
// ends it at once.
func query(ctx context.Context, server, name string, kind uint16, recursive bool) (*dns.Msg, error) {
	m := new(dns.Msg).SetQuestion(name, kind)
	m.RecursionDesired = recursive
	m.SetEdns0(1232, false)
	answer, err := exchange(ctx, "udp", server, m)
	if err == nil && answer.Truncated {
		answer, err = exchange(ctx, "tcp", server, m)
	}
	if err != nil {
		return nil, fmt.Errorf("%s %w: %v", server, errUnreachable, err) //nolint:errorlint // for people
	}
	if answer.Rcode != dns.RcodeSuccess && answer.Rcode != dns.RcodeNameError {
		return nil, fmt.Errorf("%s answers %s", server, dns.RcodeToString[answer.Rcode])
	}
	return answer, nil
}

func exchange(ctx context.Context, network, server string, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: network, Timeout: queryTimeout, UDPSize: 1232}
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	return answer, err
}
