package enroll

import (
	"context"
	"errors"
	"strings"
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
	r.cfg.Changed(ctx)
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
	// First, because its accounts cannot be found after a kill between the two.
	if err := r.forget(ctx, c.ID); err != nil {
		return clients.Client{}, err
	}
	if err := r.cfg.Store.RemoveClient(ctx, c.ID); err != nil {
		return clients.Client{}, err
	}
	r.record(ctx, "client remove", c, "")
	r.cfg.Changed(ctx)
	return c, nil
}

func (r *Registrar) forget(ctx context.Context, clientID string) error {
	if r.cfg.Door == nil {
		return nil
	}
	return r.cfg.Door.Forget(ctx, clientID)
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
// Then it revokes a page of its managed certificates in agent mode, and after all of
// them, of those of the ACME door. Pass an empty after for the
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
	rows, prefix, err := r.revocable(ctx, c, after)
	if err != nil {
		return nil, "", err
	}
	end := r.cfg.Now().Add(revokeTime)
	for _, m := range rows {
		if len(page) > 0 && r.cfg.Now().After(end) {
			break
		}
		var err error
		if prefix == "" {
			err = r.cfg.Revoke(ctx, c, m, reason)
		} else {
			err = r.cfg.Door.RevokeFor(ctx, c, m.ID, reason)
		}
		page = append(page, Revoked{m, err})
		var failed *acme.Error
		if errors.As(err, &failed) && failed.Kind != acme.Permanent {
			return page, "", nil
		}
		next = prefix + m.ID
	}
	return page, next, nil
}

// acmePage is the prefix of pages with certificates of the ACME door.
const acmePage = "acme/"

// revocable returns the next certificates to revoke, and the prefix of their pages.
func (r *Registrar) revocable(ctx context.Context, c clients.Client, after string) (rows []managed.Certificate, prefix string, err error) {
	last, ofDoor := strings.CutPrefix(after, acmePage)
	if !ofDoor {
		rows, err = r.cfg.Store.ListManaged(ctx, c.ID, clients.ModeAgent, after, revokedAtOnce)
		if err != nil || len(rows) > 0 {
			return rows, "", err
		}
		last = ""
	}
	if r.cfg.Door == nil {
		return nil, "", nil
	}
	rows, err = r.cfg.Door.ClientCertificates(ctx, c.ID, last, revokedAtOnce)
	return rows, acmePage, err
}
