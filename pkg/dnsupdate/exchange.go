package dnsupdate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// exchange sends one message to a server, over TCP. With a key, message and answer
// are signed, and an answer without a signature is an error.
func (c *Client) exchange(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	client := &dns.Client{Net: "tcp", Timeout: c.cfg.Timeout}
	if c.cfg.Key.Name != "" {
		client.TsigSecret = map[string]string{c.cfg.Key.Name: c.cfg.Key.Secret}
		m.SetTsig(c.cfg.Key.Name, c.cfg.Key.Algorithm, fudge, c.now().Unix())
	}
	answer, err := dnsquery.Exchange(ctx, client, server, m)
	if answer != nil {
		if refused := c.keyRefusal(answer.IsTsig()); refused != nil {
			return nil, fmt.Errorf("%s: %w", server, refused)
		}
	}
	var slow net.Error
	var op *net.OpError
	switch {
	case errors.Is(err, dns.ErrAuth) && answer != nil && answer.Rcode == dns.RcodeNotAuth:
		return answer, nil // the library checks no signature of a refusal
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.As(err, &op) && op.Op == "dial":
		return nil, fmt.Errorf("%s cannot be reached over TCP, check %s and the firewall: %w", server, envServers, err)
	case errors.As(err, &slow) && slow.Timeout():
		return nil, fmt.Errorf("%s does not answer within %v", server, c.cfg.Timeout)
	case err != nil:
		return nil, fmt.Errorf("%s: no good answer: %w", server, err)
	case c.cfg.Key.Name != "" && answer.IsTsig() == nil:
		return nil, fmt.Errorf("%s does not sign its answer (%s), so it counts for nothing: does it know the key %s?", server, dnsquery.RcodeText(answer.Rcode), c.cfg.Key.Name)
	}
	return answer, nil
}

// keyRefusal says in words what the server has against a signature.
func (c *Client) keyRefusal(t *dns.TSIG) error {
	if t == nil {
		return nil
	}
	switch t.Error {
	case dns.RcodeSuccess:
		return nil
	case dns.RcodeBadKey:
		return fmt.Errorf("BADKEY: it does not know the key %s with %s; compare %s and %s with its configuration", c.cfg.Key.Name, c.cfg.Key.Algorithm, envKey, envAlgorithm)
	case dns.RcodeBadSig:
		return fmt.Errorf("BADSIG: it has another secret for the key %s; compare %s or %s with its configuration", c.cfg.Key.Name, envSecret, envKeyFile)
	case dns.RcodeBadTime:
		return fmt.Errorf("BADTIME: its clock says %s, the clock here %s; set the wrong one, they may differ by %d seconds", serverTime(t), c.now().UTC().Format(time.RFC3339), fudge)
	}
	return fmt.Errorf("%s: it refuses the signature", dnsquery.RcodeText(int(t.Error)))
}

// serverTime is what a server adds to BADTIME: 48 bits (RFC 8945, section 5.2.3).
func serverTime(t *dns.TSIG) string {
	raw, err := hex.DecodeString(t.OtherData)
	if err != nil || len(raw) != 6 {
		return "something else"
	}
	var seconds int64
	for _, b := range raw {
		seconds = seconds<<8 | int64(b)
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

// refusal says in words what an answer's code means, and what to do.
func (c *Client) refusal(rcode int) error {
	code := dnsquery.RcodeText(rcode)
	var remedy string
	switch rcode {
	case dns.RcodeRefused:
		remedy = "it may not be changed by the key " + c.cfg.Key.Name + "; allow that there (in BIND by update-policy)"
		if c.cfg.Key.Name == "" {
			remedy = "it wants no updates that are not signed; set " + envKeyFile
		}
	case dns.RcodeNotAuth:
		remedy = "it is not the primary; name that in " + envServers
	case dns.RcodeNotZone:
		remedy = "the name is in another zone; correct " + envZones + ", or leave it out"
	case dns.RcodeNotImplemented:
		remedy = "it knows no dynamic updates; name one that does in " + envServers
	case dns.RcodeServerFailure:
		remedy = "its log says why; it may not be able to write the zone's file or journal"
	case dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeYXDomain, dns.RcodeNameError:
		remedy = "it wants something of the zone's other records, which was not asked for; its log says more"
	case dns.RcodeFormatError:
		remedy = "it does not understand dynamic updates"
	default:
		return errors.New(code)
	}
	return errors.New(code + ": " + remedy)
}
