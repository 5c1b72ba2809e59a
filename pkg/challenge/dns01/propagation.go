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

// The servers that must have a TXT record before the CA checks it.
const (
	Nameservers = "nameservers" // every name server of the zone
	Resolvers   = "resolvers"   // the resolvers, for networks that reach no other DNS server
	None        = "none"        // none: the CA may check at once
)

const (
	firstPause = 50 * time.Millisecond
	maxCNAMEs  = 10

	maxServers     = 16 // in one zone
	maxServerAddrs = 4  // of one server
)

// propagation waits for a TXT record. It replaces lego's check, which cannot be
// cancelled.
type propagation struct {
	mode      string   // Nameservers, Resolvers or None
	resolvers []string // host:port
	port      string   // of the zones' name servers
}

func newPropagation(cfg Config) (*propagation, error) {
	p := &propagation{mode: cfg.Propagation, resolvers: cfg.Resolvers, port: cfg.Port}
	if p.mode == "" {
		p.mode = Nameservers
	}
	if p.port == "" {
		p.port = "53"
	}
	if len(p.resolvers) > 0 {
		return p, nil
	}
	var err error
	if p.resolvers, err = dnsquery.SystemResolvers(); err != nil && p.mode != None {
		return nil, fmt.Errorf("dns-resolver: %w; set one, such as 192.0.2.53", err)
	}
	return p, nil
}

// dnsValue returns the value of a challenge's TXT record (RFC 8555, section 8.4).
func dnsValue(c challenge.Challenge) string {
	digest := sha256.Sum256([]byte(c.KeyAuthorization))
	return base64.RawURLEncoding.EncodeToString(digest[:])
}

// wait checks until the servers have the value or the timeout expires. Pauses between
// checks double from firstPause to interval.
func (p *propagation) wait(ctx context.Context, name, value string, timeout, interval time.Duration) error {
	if p.mode == None {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var last error
	for pause := firstPause; ; pause = min(pause*2, max(interval, firstPause)) {
		err := p.check(waiting, name, value)
		if err == nil {
			return nil
		}
		if waiting.Err() == nil || last == nil {
			last = err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
			continue
		case <-waiting.Done():
			t.Stop()
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &acme.Error{
			Kind: acme.Temporary, Op: "wait for the TXT record of",
			Detail: fmt.Sprintf("after %v %v; check your DNS provider, set a longer *_PROPAGATION_TIMEOUT, or choose other servers with --dns-propagation", timeout, last),
			Err:    last,
		}
	}
}

// check returns an error unless the servers have the value now. At least one server
// must have it, and so must every other one that answers.
func (p *propagation) check(ctx context.Context, name, value string) error {
	if p.mode == Resolvers {
		return askAll(p.resolvers, func(resolver string) error { return hasTXT(ctx, resolver, name, value, true) })
	}
	followed, aliases := p.follow(ctx, name)
	if aliases != nil { // the name may have no alias
		followed = name
	}
	servers, err := p.nameservers(ctx, followed)
	if err == nil {
		err = askAll(servers, func(server string) error { return p.atServer(ctx, server, followed, value) })
	}
	if err != nil && aliases != nil {
		return aliases
	}
	return err
}

// askAll asks all servers. It ignores the fault of a server unless all have one.
func askAll(servers []string, ask func(server string) error) error {
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

// follow returns the name at the end of the CNAMEs, which delegate a challenge to
// another zone.
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

// nameservers returns the name servers of the zone that holds the name, which is the
// longest suffix with a start of authority. It ignores failures below that suffix.
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

// zoneServers returns the name servers of a zone, and none if no zone has that name.
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
		if err != nil { // the other type may be enough
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
