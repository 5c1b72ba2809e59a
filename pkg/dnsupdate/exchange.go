package dnsupdate

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/miekg/dns"
)

// exchange asks one server, over TCP. With a key, question and answer are
// signed, and an answer that is not is none. ctx ends it at once.
func (c *Client) exchange(ctx context.Context, server string, m *dns.Msg) (*dns.Msg, error) {
	limited, cancel := context.WithTimeout(ctx, c.cfg.Timeout)
	defer cancel()
	client := &dns.Client{Net: "tcp", Timeout: c.cfg.Timeout}
	if c.cfg.Key.Name != "" {
		client.TsigSecret = map[string]string{c.cfg.Key.Name: c.cfg.Key.Secret}
		m.SetTsig(c.cfg.Key.Name, c.cfg.Key.Algorithm, fudge, c.now().Unix())
	}
	conn, err := client.DialContext(limited, server)
	if err != nil {
		return nil, fmt.Errorf("%s cannot be reached over TCP, check %s and the firewall: %w", server, envServers, err)
	}
	defer conn.Close()
	defer context.AfterFunc(limited, func() { conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(limited, m, conn)
	if answer != nil {
		if refused := c.keyRefusal(answer.IsTsig()); refused != nil {
			return nil, fmt.Errorf("%s: %w", server, refused)
		}
	}
	var slow net.Error
	switch {
	case errors.Is(err, dns.ErrAuth) && answer != nil && answer.Rcode == dns.RcodeNotAuth:
		return answer, nil // of which the library checks no signature; it says no anyway
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil, errors.As(err, &slow) && slow.Timeout():
		return nil, fmt.Errorf("%s does not answer within %v", server, c.cfg.Timeout)
	case err != nil:
		return nil, fmt.Errorf("%s: no good answer: %w", server, err)
	case answersAnother(m, answer):
		return nil, fmt.Errorf("%s: no good answer: it is to another question", server)
	case c.cfg.Key.Name != "" && answer.IsTsig() == nil:
		return nil, fmt.Errorf("%s does not sign its answer (%s), so it counts for nothing: does it know the key %s?", server, dns.RcodeToString[answer.Rcode], c.cfg.Key.Name)
	}
	return answer, nil
}

// answersAnother reports whether an answer is not to m. A server may leave the
// question out of an answer to an update (RFC 2136, section 3.8).
func answersAnother(m, answer *dns.Msg) bool {
	if answer.Id != m.Id || !answer.Response || answer.Opcode != m.Opcode || len(answer.Question) > 1 {
		return true
	}
	if len(answer.Question) == 0 {
		return false
	}
	asked, got := m.Question[0], answer.Question[0]
	return got.Qtype != asked.Qtype || !strings.EqualFold(got.Name, asked.Name)
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
	return fmt.Errorf("%s: it refuses the signature", dns.RcodeToString[int(t.Error)])
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
	code := dns.RcodeToString[rcode]
	if code == "" {
		code = fmt.Sprintf("code %d", rcode)
	}
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
