// Package dnsupdate adds single TXT values to a name, and deletes them, by dynamic
// updates of a name server (RFC 2136) over TCP, signed with TSIG (RFC 8945).
//
// It never changes other values of the same name, and never puts the TSIG secret into
// a message, an error or a log.
//
//	settings, err := dnsupdate.FromEnvironment(os.Getenv)
//	client, err := dnsupdate.New(settings.Config)
//	err = client.Add(ctx, "_acme-challenge.example.com.", value)
//	…
//	err = client.Delete(ctx, "_acme-challenge.example.com.", value)
package dnsupdate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

const (
	// DefaultTTL is the TTL that FromEnvironment sets if none is given, in seconds.
	DefaultTTL = 60

	maxServers = 8
	fudge      = 300 // seconds that clocks may differ (RFC 8945, section 10)
)

// Config configures a Client. New does not validate it as FromEnvironment does.
type Config struct {
	Servers []string // host:port, at least one, in the order of use
	// Zones, in lower case and with a full stop at the end, are the only zones to
	// change. If nil, the server's start of authority determines the zone.
	Zones   []string
	TTL     uint32        // of added values, in seconds
	Timeout time.Duration // for one exchange; if zero, dnsquery.DefaultTimeout
	Key     Key           // if zero, updates are not signed
}

// Client changes TXT records. It may be used concurrently.
type Client struct {
	cfg Config
	now func() time.Time
}

// New returns a Client. It contacts no server.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("no server to update")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = dnsquery.DefaultTimeout
	}
	return &Client{cfg: cfg, now: time.Now}, nil
}

// Add adds a value to a name at the first server that accepts it. After an error, a
// server may still have the value, so the caller must Delete it.
func (c *Client) Add(ctx context.Context, name, value string) error {
	var failed []error
	for _, server := range c.cfg.Servers {
		m, err := c.prepare(ctx, server, name)
		if err == nil {
			m.Insert(record(name, value, c.cfg.TTL))
			err = c.update(ctx, server, m)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		failed = append(failed, err)
	}
	return join(failed)
}

// Delete deletes a value from a name at every server, because Add may have used any of
// them. It succeeds if one server accepts the update. Servers accept it without such a
// value, too.
func (c *Client) Delete(ctx context.Context, name, value string) error {
	failed := make([]error, len(c.cfg.Servers))
	var all sync.WaitGroup
	for i, server := range c.cfg.Servers {
		all.Go(func() {
			m, err := c.prepare(ctx, server, name)
			if err == nil {
				m.Remove(record(name, value, 0)) // RFC 2136, section 2.5.4
				err = c.update(ctx, server, m)
			}
			failed[i] = err
		})
	}
	all.Wait()
	for _, err := range failed {
		if err == nil {
			return nil
		}
	}
	return join(failed)
}

func record(name, value string, ttl uint32) []dns.RR {
	return []dns.RR{&dns.TXT{
		Hdr: dns.RR_Header{Name: name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: ttl},
		Txt: []string{value},
	}}
}

// prepare returns an empty update of the zone that has the name.
func (c *Client) prepare(ctx context.Context, server, name string) (*dns.Msg, error) {
	zone, err := c.zone(ctx, server, name)
	if err != nil {
		return nil, err
	}
	return new(dns.Msg).SetUpdate(zone), nil
}

func (c *Client) update(ctx context.Context, server string, m *dns.Msg) error {
	zone := m.Question[0].Name
	answer, err := c.exchange(ctx, server, m)
	if err != nil {
		return err
	}
	if answer.Rcode != dns.RcodeSuccess {
		return fmt.Errorf("%s does not update the zone %s: %w", server, zone, c.refusal(answer.Rcode))
	}
	return nil
}

// join joins the errors of several servers in one line.
func join(failed []error) error {
	if len(failed) == 1 {
		return failed[0]
	}
	text := make([]string, len(failed))
	for i, err := range failed {
		text[i] = err.Error()
	}
	return errors.New(strings.Join(text, "; and "))
}
