package client

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/hook"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// Deployments implements work.Source for bundles whose files or hook are due.
type Deployments struct{ *Client }

// Next implements work.Source.
func (d Deployments) Next(ctx context.Context) (time.Time, error) { return d.cfg.Store.NextHook(ctx) }

// Claim implements work.Source.
func (d Deployments) Claim(ctx context.Context, limit int) ([]work.Job, error) {
	owner := d.cfg.Owner + "/" + rand.Text()[:8] // as in renewal.Queue
	rows, err := d.cfg.Store.ClaimHooks(ctx, owner, work.Lease, limit)
	jobs := make([]work.Job, len(rows))
	for i, row := range rows {
		jobs[i] = func(ctx context.Context) { d.work(ctx, owner, row) }
	}
	return jobs, err
}

func (c *Client) work(ctx context.Context, owner string, pending managed.Deployment) {
	st, id := c.cfg.Store, pending.ManagedID
	hold := work.Hold{
		Extend:  func(ctx context.Context, lease time.Duration) error { return st.ExtendHook(ctx, id, owner, lease) },
		Release: func(ctx context.Context) error { return st.ReleaseHook(ctx, id, owner) },
		Fail: func(ctx context.Context, f managed.Failure) error {
			return st.FailHook(ctx, id, owner, pending.ETag, f)
		},
		Done:     func(ctx context.Context) error { return st.CompleteHook(ctx, id, owner, pending.ETag) },
		Failures: pending.Failures,
		Failed:   "the certificate is kept, but its deployment failed", Now: c.cfg.Now,
		Log: c.cfg.Logger.With("certificate", id),
	}
	hold.Run(ctx, func(ctx context.Context) error { return c.deploy(ctx, pending) })
}

// deploy writes the stored bundle to disk and runs the hook. After a crash it may run
// twice for one bundle, but it runs at least once.
func (c *Client) deploy(ctx context.Context, pending managed.Deployment) error {
	row, err := c.cfg.Store.ManagedByID(ctx, pending.ManagedID)
	if err != nil {
		return err
	}
	dir := c.Dir(row)
	bundle, err := c.write(ctx, row)
	if err != nil || bundle == nil {
		return err
	}
	c.notifyInstalled(bundle)
	if c.cfg.Hook.Command == "" {
		return nil
	}
	return c.cfg.Hook.Run(ctx, hook.Event{
		Names: row.Names, Dir: dir, Mode: string(clients.ModeClient), Email: c.cfg.Email,
		CertPath:      filepath.Join(dir, certfile.Cert),
		ChainPath:     filepath.Join(dir, certfile.Chain),
		FullchainPath: filepath.Join(dir, certfile.Fullchain),
		KeyPath:       filepath.Join(dir, certfile.Key),
		Serial:        bundle.Serial(), NotAfter: bundle.NotAfter(),
	})
}

// write writes the stored bundle to the row's folder, unless the files are correct. It
// returns nil without an error if the folder belongs to another certificate.
func (c *Client) write(ctx context.Context, row managed.Certificate) (*cert.Bundle, error) {
	c.writing.Lock()
	defer c.writing.Unlock()
	dir := c.Dir(row)
	if c.isOthers(dir, row.Names) && !c.standsIn(row) { // they replaced these names in the configuration
		c.cfg.Logger.Info("the certificate is not deployed; its folder belongs to another one", "names", row.Names, "folder", dir)
		return nil, nil //nolint:nilnil // documented above
	}
	if err := c.checkLink(row); err != nil {
		return nil, err
	}
	bundle, err := c.stored(ctx, row)
	if err != nil || c.cfg.Files.Holds(dir, bundle) {
		return bundle, err
	}
	if err := c.cfg.Files.WriteAs(ctx, dir, bundle, c.claim(row)); err != nil {
		return nil, folderError(err)
	}
	c.replaced()
	return bundle, nil
}

// stored opens the sealed copy. An error that wraps errUseless is permanent.
func (c *Client) stored(ctx context.Context, row managed.Certificate) (*cert.Bundle, error) {
	sealed, err := c.cfg.Store.BundleFor(ctx, row.ID)
	if errors.Is(err, managed.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", errUseless, err)
	}
	if err != nil {
		return nil, err
	}
	pem, err := seal.Open(sealed.Ciphertext, c.cfg.Identity)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUseless, err)
	}
	b, err := cert.ParseBundle(pem)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errUseless, err)
	}
	return b, nil
}

var errUseless = errors.New("the stored certificate cannot be opened")

// inspect compares the files with the store at start. Missing or other files make a
// deployment due. Correct ones are reported to Config.Installed, and no hook runs.
func (c *Client) inspect(ctx context.Context, row managed.Certificate) error {
	bundle, err := c.stored(ctx, row)
	if err != nil && !errors.Is(err, errUseless) {
		return err
	}
	if err != nil {
		// The identity file was replaced, so the copy cannot be opened. A new
		// certificate replaces it. If that fails, a start does not repeat it: the limits
		// of Proxy.TryNow apply.
		if row.IsFailing() {
			return nil
		}
		c.cfg.Logger.Error("ordering a new certificate", "names", row.Names, "error", err)
		return c.cfg.Store.SetDue(ctx, row.ID, c.cfg.Now())
	}
	dir := c.Dir(row)
	if isInstalled(dir, bundle) {
		c.notifyInstalled(bundle) // the PEM files suffice
	}
	if c.cfg.Files.Holds(dir, bundle) && c.checkLink(row) == nil {
		return nil
	}
	return c.cfg.Store.RequireHook(ctx, row.ID, row.ETag)
}

func (c *Client) notifyInstalled(b *cert.Bundle) {
	if c.cfg.Installed != nil {
		c.cfg.Installed(b)
	}
}

// isInstalled reports whether the PEM files in dir are the bundle's.
func isInstalled(dir string, b *cert.Bundle) bool {
	have, err := certfile.Read(dir)
	return err == nil && have.Leaf.Equal(b.Leaf) // files that cannot be read are written again
}
