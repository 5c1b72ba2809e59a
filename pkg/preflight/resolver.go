package preflight

import (
	"context"
	"errors"
	"fmt"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// errNoSuchName reports NXDOMAIN.
var errNoSuchName = errors.New("no such name")

// ask asks the resolvers, never /etc/hosts, which no CA reads, once in a Run. The records
// include the aliases that lead to the answer.
func (c *Checker) ask(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	return c.answers.get(ctx, question{name, qtype}, func() ([]dns.RR, error) { return c.resolve(ctx, name, qtype) })
}

func (c *Checker) resolve(ctx context.Context, name string, qtype uint16) ([]dns.RR, error) {
	timeout := c.cfg.Timeout / 2 // Ask may need two exchanges: TCP after UDP
	answer, err := dnsquery.AskFirst(ctx, c.cfg.Resolvers, dnsquery.Question{Name: dns.Fqdn(name), Type: qtype, Recursive: true, Timeout: timeout})
	switch {
	case err != nil:
		return nil, fmt.Errorf("the resolver %w", err)
	case answer.Rcode == dns.RcodeNameError:
		return answer.Records, errNoSuchName
	}
	return answer.Records, nil
}
