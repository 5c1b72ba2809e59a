package preflight

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// resolver asks recursive resolvers, never /etc/hosts, which no CA reads.
type resolver struct {
	servers []string
	timeout time.Duration // of one exchange
}

// resolvConf names the system's resolvers.
const resolvConf = "/etc/resolv.conf"

func newResolver(servers []string, timeout time.Duration) (*resolver, error) {
	if len(servers) > 0 {
		return &resolver{servers, timeout}, nil
	}
	conf, err := dns.ClientConfigFromFile(resolvConf)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w; name a resolver with --resolver", resolvConf, err)
	}
	for _, s := range conf.Servers {
		servers = append(servers, net.JoinHostPort(s, conf.Port))
	}
	if len(servers) == 0 {
		return nil, fmt.Errorf("%s names no resolver; name one with --resolver", resolvConf)
	}
	return &resolver{servers[:min(len(servers), 3)], timeout}, nil
}

// ParseResolver makes HOST:PORT of what people write: an IP address or a name,
// with a port or without.
func ParseResolver(s string) (string, error) {
	host, port := s, "53"
	if h, p, err := net.SplitHostPort(s); err == nil {
		host, port = h, p
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/ []") || strings.Contains(host, ":") && net.ParseIP(host) == nil {
		return "", fmt.Errorf("%q is no resolver; write its address, such as 9.9.9.9:53 or [2620:fe::fe]:53", s)
	}
	return net.JoinHostPort(host, port), nil
}

// errNoSuchName is NXDOMAIN.
var errNoSuchName = errors.New("no such name")

// rcodeError is a refusal of the resolver, such as SERVFAIL.
type rcodeError struct {
	rcode  int
	server string
}

func (e *rcodeError) Error() string {
	return fmt.Sprintf("the resolver %s answers %s", e.server, dnsquery.RcodeText(e.rcode))
}

// ask returns the answer: the records and the aliases on the way.
func (r *resolver) ask(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	var last error
	for _, server := range r.servers {
		answer, err := dnsquery.Ask(ctx, server, dnsquery.Question{Name: dns.Fqdn(name), Type: qtype, Recursive: true, Timeout: r.timeout})
		switch {
		case err != nil:
			last = fmt.Errorf("the resolver %s does not answer: %w", server, plain(err))
		case answer.Rcode == dns.RcodeSuccess:
			return answer.Records, nil
		case answer.Rcode == dns.RcodeNameError:
			return answer.Records, errNoSuchName
		default:
			last = &rcodeError{answer.Rcode, server}
		}
	}
	return nil, last
}

// plain drops the addresses and calls that an error of package net repeats.
func plain(err error) error {
	var op *net.OpError
	var timeout net.Error
	switch {
	case errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, context.DeadlineExceeded):
		return errors.New("timeout")
	case errors.As(err, &op):
		return op.Err
	}
	return err
}
