package client

import (
	"context"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// standsIn reports whether a row that is not configured has its certificate in the
// folder of a configured set. That set replaces it, but has no deployed certificate yet.
// Until then the former one is renewed, so that the files do not expire. If the files are
// lost, the row that was renewed until now stands in again: its bundle is stored.
func (c *Client) standsIn(row managed.Certificate) bool {
	dir := c.Dir(row)
	if row.Serial == "" || !row.SupersededAt.IsZero() || c.IsConfigured(row) || !c.isOthers(dir, row.Names) {
		return false
	}
	b, err := certfile.Read(dir)
	if err != nil {
		return !row.DueAt.IsZero() && row.RevokedAt.IsZero()
	}
	names, err := b.Names()
	return err == nil && names.Equal(row.Names)
}

// keepFormer makes a row that stands in renewed and deployed like a configured one.
func (c *Client) keepFormer(ctx context.Context, row managed.Certificate) error {
	if row.DueAt.IsZero() { // it was not configured for a while
		if err := c.cfg.Store.SetDue(ctx, row.ID, cert.RenewAt(row.NotBefore, row.NotAfter)); err != nil {
			return err
		}
	}
	return c.inspect(ctx, row)
}

// EndFormer ends the renewals of rows that are not configured, unless one stands in. It
// must be called on the client with the present settings, after each call of
// Config.Replaced.
func (c *Client) EndFormer(ctx context.Context) error {
	rows, err := c.rows(ctx)
	if err != nil {
		return err
	}
	return c.endOthers(ctx, rows)
}

// endOthers ends the renewals of rows that are not configured.
func (c *Client) endOthers(ctx context.Context, rows map[string]managed.Certificate) error {
	for _, row := range rows {
		var err error
		switch {
		case c.IsConfigured(row):
		case c.standsIn(row):
			err = c.keepFormer(ctx, row)
		case !row.DueAt.IsZero():
			err = c.cfg.Store.SetDue(ctx, row.ID, time.Time{})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) replaced() {
	if c.cfg.Replaced != nil {
		c.cfg.Replaced()
	}
}
