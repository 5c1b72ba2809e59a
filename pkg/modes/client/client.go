// Package client implements acme-client mode: the proxy obtains and renews
// certificates for its own host, writes PEM files under certbot's names for local
// services, and runs the certificate-obtained hook. One of these certificates is the
// API's own.
//
// A certificate counts as deployed only when its files are in place and the hook has
// succeeded. Until then both are retried. The store has a sealed copy, so that lost
// files are restored without an order.
package client

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/hook"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/renewal"
)

// Store stores the proxy's own certificates and their deployments. Its methods may
// be used concurrently. Errors are those of package managed.
type Store interface {
	Register(ctx context.Context, r managed.Registration) (stored managed.Certificate, created bool, err error)
	ManagedByID(ctx context.Context, id string) (managed.Certificate, error)
	ManagedByNames(ctx context.Context, clientID string, mode clients.Mode, names []string) (managed.Certificate, error)
	ListManaged(ctx context.Context, clientID string, mode clients.Mode, afterID string, limit int) ([]managed.Certificate, error)
	BundleFor(ctx context.Context, managedID string) (managed.Bundle, error)
	SetDue(ctx context.Context, id string, at time.Time) error
	SetName(ctx context.Context, id, name string) error
	RequireHook(ctx context.Context, managedID, etag string) error
	PendingHookFor(ctx context.Context, managedID string) (managed.Deployment, error)
	NextHook(ctx context.Context) (time.Time, error)
	ClaimHooks(ctx context.Context, owner string, lease time.Duration, limit int) ([]managed.Deployment, error)
	ExtendHook(ctx context.Context, managedID, owner string, lease time.Duration) error
	ReleaseHook(ctx context.Context, managedID, owner string) error
	CompleteHook(ctx context.Context, managedID, owner, etag string) error
	FailHook(ctx context.Context, managedID, owner, etag string, f managed.Failure) error
}

// Config holds the settings and dependencies of the mode.
type Config struct {
	Store    Store
	Audit    *audit.Log
	Identity *age.X25519Identity // the proxy's own
	Sets     []Set               // of the certificates to manage
	KeyType  cert.KeyType
	Profile  string // of the CA; empty: its default
	Dir      string // the files go to <Dir>/<folder of the name>/
	DataDir  string // of the proxy, an absolute path; it owns the folders
	Files    certfile.Layout
	Hook     hook.Hook
	Email    string // of the CA account, for lego's hooks
	// CheckNames returns a *cert.FieldError for names that can never be issued.
	CheckNames func(cert.Names) error
	Owner      string // name of this instance
	// Installed, if set, is called with each bundle whose files are in place, at
	// start and after each renewal.
	Installed func(*cert.Bundle)
	// Replaced, if set, is called when a former set may have become unnecessary: files
	// were replaced, or an attempt for a set that is not configured has ended. The
	// function calls EndFormer.
	Replaced func()
	Wake     func() // called when a deployment became due
	Logger   *slog.Logger
	Now      func() time.Time
}

// Client implements the mode. It is safe for concurrent use.
type Client struct {
	cfg    Config
	owners atomic.Pointer[folders] // set by Start

	writing sync.Mutex // held while files are compared and replaced
}

// New returns the mode. It checks that every set can be issued and written.
func New(cfg Config) (*Client, error) {
	if err := cfg.Files.Ready(); err != nil {
		return nil, err
	}
	for _, set := range cfg.Sets {
		if err := cfg.CheckNames(set.Names); err != nil {
			return nil, fmt.Errorf("domain: %w", err)
		}
	}
	return &Client{cfg: cfg}, nil
}

// Start makes the store's rows match the configuration and inspects the files. A set
// that is no longer configured keeps its files and is not renewed, unless its folder belongs
// to a set that has no certificate yet. If two sets would
// share a folder, Start returns a *SharedFolderError and changes nothing. After another error some
// rows may match already. Start can be repeated.
func (c *Client) Start(ctx context.Context) error {
	rows, err := c.rows(ctx)
	if err != nil {
		return err
	}
	sets, owners, err := c.assign(rows)
	if err != nil {
		return err
	}
	c.owners.Store(&owners)
	for _, set := range sets {
		if err := c.ensure(ctx, set); err != nil {
			return fmt.Errorf("certificate for %s: %w", set.Names, err)
		}
	}
	if err := c.endOthers(ctx, rows); err != nil {
		return err
	}
	c.reportStale(rows)
	return nil
}

// EndOthers ends the renewals of sets that are not configured. An attempt with earlier
// settings makes its row due again when it ends, so this is repeated then. So is the
// inspection of the files, because an earlier deployment may have replaced them.
func (c *Client) EndOthers(ctx context.Context) error {
	rows, err := c.rows(ctx)
	if err != nil {
		return err
	}
	for _, row := range rows {
		if c.IsConfigured(row) && row.Serial != "" {
			if err := c.inspect(ctx, row); err != nil {
				return err
			}
		}
	}
	return c.endOthers(ctx, rows)
}

func (c *Client) ensure(ctx context.Context, set Set) error {
	row, _, err := c.cfg.Store.Register(ctx, managed.Registration{
		Certificate: managed.Certificate{
			Mode: clients.ModeClient, Names: set.Names, Name: set.Name, KeyType: string(c.cfg.KeyType), Profile: c.cfg.Profile,
		},
		Pause: renewal.AskPause, Tries: renewal.StartTries, Holds: policy.Holds, Audit: audit.Superseded,
	})
	if err != nil {
		return err
	}
	if err := c.rename(ctx, &row, set.Name); err != nil {
		return err
	}
	if risk := certfile.Risk(c.Dir(row)); risk != "" {
		c.cfg.Logger.Warn("another user could replace the certificate", "names", set.Names.String(), "risk", risk)
	}
	if row.DueAt.IsZero() { // it was removed from the configuration earlier
		due := c.cfg.Now()
		if due.Before(row.WaitUntil) && !cert.IsParked(row.WaitUntil, time.Time{}, due) {
			due = row.WaitUntil
		}
		if row.Serial != "" {
			due = cert.RenewAt(row.NotBefore, row.NotAfter)
		}
		if err := c.cfg.Store.SetDue(ctx, row.ID, due); err != nil {
			return err
		}
	}
	if row.Serial == "" {
		return nil
	}
	return c.inspect(ctx, row)
}

// Delivery implements renewal.Mode. The bundle is sealed to the proxy itself and
// deployed. It returns an error if the files cannot be written.
func (c *Client) Delivery(ctx context.Context, m managed.Certificate) (renewal.Delivery, error) {
	err := c.checkLink(m)
	if err == nil {
		err = folderError(c.cfg.Files.Claimable(c.Dir(m), c.claim(m)))
	}
	if err == nil {
		err = c.cfg.Files.Probe(ctx, c.Dir(m))
	}
	if err != nil {
		return renewal.Delivery{}, fmt.Errorf("the certificate could not be stored, so none is ordered: %w", err)
	}
	return renewal.Delivery{Recipients: []age.Recipient{c.cfg.Identity.Recipient()}, Deploy: true}, nil
}

// Settled implements renewal.Mode. It wakes the deployments.
func (c *Client) Settled(_ context.Context, o managed.Outcome) {
	if !c.IsConfigured(o.Certificate) { // the attempt made the row due again
		go c.replaced()
	}
	if o.Err == nil {
		c.cfg.Wake()
	}
}

// Status returns the certificates of this mode and their pending deployments.
func (c *Client) Status(ctx context.Context) ([]Status, error) {
	var all []Status
	for _, set := range c.cfg.Sets {
		row, err := c.cfg.Store.ManagedByNames(ctx, "", clients.ModeClient, set.Names)
		if errors.Is(err, managed.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, err
		}
		status, err := c.Describe(ctx, row)
		if err != nil {
			return nil, err
		}
		all = append(all, status)
	}
	return all, nil
}

// Describe returns the status of one row of this mode.
func (c *Client) Describe(ctx context.Context, row managed.Certificate) (Status, error) {
	status := Status{Certificate: row, Dir: c.Dir(row), Configured: c.IsConfigured(row) || c.standsIn(row)}
	pending, err := c.cfg.Store.PendingHookFor(ctx, row.ID)
	if errors.Is(err, managed.ErrNotFound) {
		return status, nil
	}
	if err != nil {
		return status, err
	}
	status.Deployment = &Deployment{Deployment: pending, RunBy: path.Dir(pending.LeaseOwner)}
	if pending.LeaseOwner == "" || !c.cfg.Now().Before(pending.LeaseUntil) {
		status.Deployment.RunBy, status.Deployment.LeaseUntil = "", time.Time{}
	}
	return status, nil
}

// Deploy makes the files of a row be written, if necessary, and the hook run, even if
// both have succeeded. It returns managed.ErrNoCertificate if there is nothing to deploy.
func (c *Client) Deploy(ctx context.Context, row managed.Certificate) error {
	if row.ETag == "" || !row.RevokedAt.IsZero() {
		return managed.ErrNoCertificate
	}
	if err := c.cfg.Store.RequireHook(ctx, row.ID, row.ETag); err != nil {
		return err
	}
	c.cfg.Wake()
	return nil
}

// Leaf returns the current certificate of a row, or nil if the stored copy cannot be
// opened.
func (c *Client) Leaf(ctx context.Context, row managed.Certificate) (*x509.Certificate, error) {
	b, err := c.stored(ctx, row)
	if errors.Is(err, errUseless) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return b.Leaf, nil
}

// Status describes a certificate and its deployment.
type Status struct {
	managed.Certificate
	Dir        string      // the folder of its files
	Configured bool        // whether it is renewed
	Deployment *Deployment // of the files and the hook; nil when both have succeeded
}

// Deployment describes a deployment that has not succeeded yet.
type Deployment struct {
	managed.Deployment
	RunBy string // name of the instance that runs it; empty if it waits
}
