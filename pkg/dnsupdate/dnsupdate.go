// Package dnsupdate adds one TXT value to a name, and deletes one, by dynamic
// updates of a name server (RFC 2136) over TCP, signed by TSIG (RFC 8945).
//
// Other values of the same name are left alone. The package knows nothing of
// what the values are for, and never tells the TSIG secret to anybody.
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
	// DefaultTTL is what FromEnvironment sets, in seconds.
	DefaultTTL = 60

	maxServers = 8
	fudge      = 300 // seconds by which clocks may differ (RFC 8945, section 10)
)

// Config is what a Client needs. FromEnvironment checks what it returns.
type Config struct {
	Servers []string // host:port, at least one; in this order
	// Zones, lower-case and with a full stop at the end, are the only ones that
	// are changed; nil: a server's own start of authority tells.
	Zones   []string
	TTL     uint32        // of what is added, in seconds
	Timeout time.Duration // for one exchange; if zero, dnsquery.DefaultTimeout
	Key     Key           // zero: updates are not signed
}

// Client changes TXT records. It may be used concurrently.
type Client struct {
	cfg Config
	now func() time.Time
}

// New returns a Client. Nothing is asked yet.
func New(cfg Config) (*Client, error) {
	if len(cfg.Servers) == 0 {
		return nil, errors.New("no server to update")
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = dnsquery.DefaultTimeout
	}
	return &Client{cfg: cfg, now: time.Now}, nil
}

// Add adds a value to a name at the first server that takes it. After an error
// a server may have it nevertheless: Delete it then, too.
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

// Delete deletes a value from a name, at every server: Add may have reached
// another one than would be reached now. One that takes it is enough, and it
// does so if there is no such value.
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

// prepare begins an update of the zone that has the name.
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

// join makes one line of what several servers said.
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
