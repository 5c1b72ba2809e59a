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
	"github.com/acmeproxy/acmeproxy/pkg/printable"
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
		return nil, fmt.Errorf("%s cannot be reached over TCP; check %s and the firewall: %w", server, envServers, err)
	case errors.As(err, &slow) && slow.Timeout():
		return nil, fmt.Errorf("%s does not answer within %v", server, c.cfg.Timeout)
	case err != nil:
		return nil, fmt.Errorf("%s sent no valid answer: %w", server, err)
	case c.cfg.Key.Name != "" && answer.IsTsig() == nil:
		return nil, fmt.Errorf("%s does not sign its answer (%s), so the answer is ignored; check that it knows the key %s", server, dnsquery.RcodeText(answer.Rcode), c.cfg.Key.Name)
	}
	return answer, nil
}

// keyRefusal returns why the server rejects the signature, or nil.
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
		return fmt.Errorf("BADTIME: its clock shows %s, the local one %s; correct the wrong one, they may differ by %d seconds", serverTime(t), printable.Time(c.now()), fudge)
	}
	return fmt.Errorf("%s: it refuses the signature", dnsquery.RcodeText(int(t.Error)))
}

// serverTime returns the time that a server adds to BADTIME: 48 bits (RFC 8945, section
// 5.2.3).
func serverTime(t *dns.TSIG) string {
	raw, err := hex.DecodeString(t.OtherData)
	if err != nil || len(raw) != 6 {
		return "an invalid time"
	}
	var seconds int64
	for _, b := range raw {
		seconds = seconds<<8 | int64(b)
	}
	return printable.Time(time.Unix(seconds, 0))
}

// refusal returns what an answer's code means, and its remedy.
func (c *Client) refusal(rcode int) error {
	code := dnsquery.RcodeText(rcode)
	var remedy string
	switch rcode {
	case dns.RcodeRefused:
		remedy = "the key " + c.cfg.Key.Name + " may not change it; allow that there (in BIND with update-policy)"
		if c.cfg.Key.Name == "" {
			remedy = "it requires signed updates; set " + envKeyFile
		}
	case dns.RcodeNotAuth:
		remedy = "it is not the primary; set that in " + envServers
	case dns.RcodeNotZone:
		remedy = "the name is in another zone; correct " + envZones + ", or unset it"
	case dns.RcodeNotImplemented:
		remedy = "it does not support dynamic updates; set one that does in " + envServers
	case dns.RcodeServerFailure:
		remedy = "see its log; it may be unable to write the zone's file or journal"
	case dns.RcodeNXRrset, dns.RcodeYXRrset, dns.RcodeYXDomain, dns.RcodeNameError:
		remedy = "it reports a prerequisite, which the update does not have; see its log"
	case dns.RcodeFormatError:
		remedy = "it does not understand dynamic updates"
	default:
		return errors.New(code)
	}
	return errors.New(code + ": " + remedy)
}
