package enroll

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// SetDisabled disables or enables the client of this name, and returns it. The error
// for an unknown client is managed.ErrNotFound.
func (r *Registrar) SetDisabled(ctx context.Context, name string, disabled bool) (clients.Client, error) {
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return clients.Client{}, err
	}
	if err := r.cfg.Store.SetClientDisabled(ctx, c.ID, disabled); err != nil {
		return clients.Client{}, err
	}
	action := "client enable"
	if disabled {
		action = "client disable"
	}
	r.record(ctx, action, c, "")
	c.Disabled = disabled
	return c, nil
}

// Remove removes the client of this name with its credentials, managed certificates
// and bundles, and returns the removed client. The error for an unknown client is
// managed.ErrNotFound.
func (r *Registrar) Remove(ctx context.Context, name string) (clients.Client, error) {
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return clients.Client{}, err
	}
	if err := r.cfg.Store.RemoveClient(ctx, c.ID); err != nil {
		return clients.Client{}, err
	}
	r.record(ctx, "client remove", c, "")
	return c, nil
}

// The limits of one call of RevokeAll. Its caller waits at most 30 s, and one
// certificate may take most of that.
const (
	revokedAtOnce = 20
	revokeTime    = 3 * time.Second
)

// Revoked is the outcome for one certificate.
type Revoked struct {
	managed.Certificate
	Err error // why it is not revoked
}

// RevokeAll disables the client of this name, so that it gets no new certificates.
// Then it revokes a page of its managed certificates. Pass an empty after for the
// first page, and then the returned next. An empty next means that no certificates
// are left or that the CA failed, because it would fail for the others as well.
func (r *Registrar) RevokeAll(ctx context.Context, name string, reason cert.Reason, after string) (page []Revoked, next string, err error) {
	if after == "" {
		if _, err := r.SetDisabled(ctx, name, true); err != nil {
			return nil, "", err
		}
	}
	c, err := r.cfg.Store.ClientByName(ctx, name)
	if err != nil {
		return nil, "", err
	}
	rows, err := r.cfg.Store.ListManaged(ctx, c.ID, clients.ModeAgent, after, revokedAtOnce)
	if err != nil {
		return nil, "", err
	}
	end := r.cfg.Now().Add(revokeTime)
	for _, m := range rows {
		if len(page) > 0 && r.cfg.Now().After(end) {
			break
		}
		err := r.cfg.Revoke(ctx, c, m, reason)
		page = append(page, Revoked{m, err})
		var failed *acme.Error
		if errors.As(err, &failed) && failed.Kind != acme.Permanent {
			return page, "", nil
		}
		next = m.ID
	}
	return page, next, nil
}
