package dns01

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

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// The servers that must have a TXT record before the CA looks.
const (
	Nameservers = "nameservers" // every name server of the zone
	Resolvers   = "resolvers"   // the resolvers, where no other DNS can be reached
	None        = "none"        // none: the CA is told at once
)

const (
	firstLook = 50 * time.Millisecond
	maxCNAMEs = 10

	maxServers     = 16 // of one zone
	maxServerAddrs = 4  // of one server
)

// propagation tells when a TXT record can be seen. In place of lego's check,
// which cannot be cancelled.
type propagation struct {
	whom      string
	resolvers []string // host:port
	port      string   // of the zones' name servers
}

func newPropagation(cfg Config) (*propagation, error) {
	p := &propagation{whom: cfg.Propagation, resolvers: cfg.Resolvers, port: cfg.Port}
	if p.whom == "" {
		p.whom = Nameservers
	}
	if p.port == "" {
		p.port = "53"
	}
	if len(p.resolvers) > 0 {
		return p, nil
	}
	var err error
	if p.resolvers, err = dnsquery.SystemResolvers(); err != nil && p.whom != None {
		return nil, fmt.Errorf("dns-resolver: %w; name one, such as 192.0.2.53", err)
	}
	return p, nil
}

// dnsValue is what a challenge's TXT record holds (RFC 8555, section 8.4).
func dnsValue(c challenge.Challenge) string {
	digest := sha256.Sum256([]byte(c.KeyAuthorization))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// wait looks until the value is there, at most for timeout; the first looks
// come soon, later ones after interval.
func (p *propagation) wait(ctx context.Context, name, value string, timeout, interval time.Duration) error {
	if p.whom == None {
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
		return &acme.Error{
			Kind: acme.Temporary, Op: "wait for the TXT record of",
			Detail: fmt.Sprintf("after %v %v; see to your DNS provider, give it more time (*_PROPAGATION_TIMEOUT), or choose whom to ask with --dns-propagation", timeout, last),
			Err:    last,
		}
	}
}

// look reports whether the value is there now. Each server that answers must
// have it, and one at least; one of several that is down or lame does not count.
func (p *propagation) look(ctx context.Context, name, value string) error {
	if p.whom == Resolvers {
		return everyone(p.resolvers, func(resolver string) error { return hasTXT(ctx, resolver, name, value, true) })
	}
	followed, aliases := p.follow(ctx, name)
	if aliases != nil { // it need not have an alias
		followed = name
	}
	servers, err := p.nameservers(ctx, followed)
	if err == nil {
		err = everyone(servers, func(server string) error { return p.atServer(ctx, server, followed, value) })
	}
	if err != nil && aliases != nil {
		return aliases
	}
	return err
}

// everyone asks all servers. A server that is out of order counts only if all
// are.
func everyone(servers []string, ask func(server string) error) error {
	var broken error
	found := false
	for _, server := range servers {
		err := ask(server)
		switch {
		case err == nil:
			found = true
		case isServerFault(err):
			if broken == nil {
				broken = err
			}
		default:
			return err
		}
	}
	if found {
		return nil
	}
	return broken
}

// follow goes along CNAMEs, by which others' challenges are delegated.
func (p *propagation) follow(ctx context.Context, name string) (string, error) {
	for range maxCNAMEs {
		answer, err := p.resolve(ctx, name, dns.TypeCNAME)
		if err != nil {
			return "", err
		}
		if len(answer.Records) == 0 {
			return name, nil
		}
		name = answer.Records[0].(*dns.CNAME).Target
	}
	return "", dnsquery.ErrAliases
}

// nameservers returns those of the zone that holds the name: the first label
// from the left that has a start of authority. A question that fails below the
// zone's own name does not count.
func (p *propagation) nameservers(ctx context.Context, name string) ([]string, error) {
	var failed error
	for _, i := range dns.Split(name) {
		servers, err := p.zoneServers(ctx, name[i:])
		if len(servers) > 0 {
			return servers, nil
		}
		if failed == nil {
			failed = err
		}
		if ctx.Err() != nil {
			break
		}
	}
	if failed == nil {
		failed = fmt.Errorf("no zone is found for %s", name)
	}
	return nil, failed
}

// zoneServers returns the name servers of a zone; none if there is no zone of
// that name.
func (p *propagation) zoneServers(ctx context.Context, zone string) ([]string, error) {
	answer, err := p.resolve(ctx, zone, dns.TypeSOA)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(answer.Records, func(rr dns.RR) bool {
		return rr.Header().Rrtype == dns.TypeSOA && strings.EqualFold(rr.Header().Name, zone)
	}) {
		return nil, nil
	}
	if answer, err = p.resolve(ctx, zone, dns.TypeNS); err != nil {
		return nil, err
	}
	var servers []string
	for _, rr := range answer.Records {
		if ns, ok := rr.(*dns.NS); ok && len(servers) < maxServers {
			servers = append(servers, ns.Ns)
		}
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("the zone %s has no name servers", zone)
	}
	return servers, nil
}

// atServer asks one name server, at the first of its addresses that answers.
func (p *propagation) atServer(ctx context.Context, server, name, value string) error {
	var addrs []string
	failed := fmt.Errorf("the name server %s %w: it has no address", server, dnsquery.ErrNoAnswer)
	for _, kind := range []uint16{dns.TypeA, dns.TypeAAAA} {
		answer, err := p.resolve(ctx, server, kind)
		if err != nil { // the other kind may do
			failed = fmt.Errorf("the name server %s %w: %v", server, dnsquery.ErrNoAnswer, err) //nolint:errorlint // for people
			continue
		}
		for _, rr := range answer.Records {
			switch a := rr.(type) {
			case *dns.A:
				addrs = append(addrs, a.A.String())
			case *dns.AAAA:
				addrs = append(addrs, a.AAAA.String())
			}
		}
	}
	for _, addr := range addrs[:min(len(addrs), maxServerAddrs)] {
		err := hasTXT(ctx, net.JoinHostPort(addr, p.port), name, value, false)
		if !isServerFault(err) {
			return err
		}
		failed = err
	}
	return failed
}

// resolve asks the resolvers.
func (p *propagation) resolve(ctx context.Context, name string, kind uint16) (*dnsquery.Answer, error) {
	return dnsquery.AskFirst(ctx, p.resolvers, dnsquery.Question{Name: name, Type: kind, Recursive: true})
}

func hasTXT(ctx context.Context, server, name, value string, recursive bool) error {
	answer, err := dnsquery.Ask(ctx, server, dnsquery.Question{Name: name, Type: dns.TypeTXT, Recursive: recursive})
	if err != nil {
		return err
	}
	for _, rr := range answer.Records {
		if txt, ok := rr.(*dns.TXT); ok && strings.Join(txt.Txt, "") == value {
			return nil
		}
	}
	if !recursive && !answer.Authoritative {
		return fmt.Errorf("%s %w", server, errLame)
	}
	return fmt.Errorf("%s does not have it yet", server)
}

// errLame reports a name server without the zone.
var errLame = errors.New("does not serve the zone")

// isServerFault reports whether an error is about one server, not about the record.
func isServerFault(err error) bool {
	var rcode *dnsquery.RcodeError
	return errors.As(err, &rcode) || errors.Is(err, dnsquery.ErrNoAnswer) || errors.Is(err, errLame)
}
