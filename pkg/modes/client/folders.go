package client

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// Set describes a certificate to manage.
type Set struct {
	Names  cert.Names
	Name   string // after which the folder is called, unless the set replaces a stored one
	Chosen bool   // the administrator gave Name, which replaces a stored one
}

// nameOf returns a row's name. Rows of older programs are called after the first of
// their sorted names.
func nameOf(row managed.Certificate) string {
	if row.Name != "" {
		return row.Name
	}
	return strings.ReplaceAll(row.Names[0], ":", "-")
}

// Dir returns the folder with the files of a row.
func (c *Client) Dir(row managed.Certificate) string {
	return filepath.Join(c.cfg.Dir, cert.FolderName(nameOf(row)))
}

// folders holds the configured sets by their folders.
type folders map[string]Set

// key returns the key of a folder, which is the same on systems that ignore case.
func (folders) key(dir string) string { return strings.ToLower(filepath.Base(dir)) }

// rows returns the rows of this host, by the keys of their names.
func (c *Client) rows(ctx context.Context) (map[string]managed.Certificate, error) {
	all := map[string]managed.Certificate{}
	for after := ""; ; {
		page, err := c.cfg.Store.ListManaged(ctx, "", clients.ModeClient, after, pageSize)
		if err != nil {
			return nil, err
		}
		for _, row := range page {
			all[cert.Names(row.Names).Key()] = row
			after = row.ID
		}
		if len(page) < pageSize {
			return all, nil
		}
	}
}

const pageSize = 100

// assign returns the configured sets with their names, and their folders. A folder has
// one owner: sets that share one are an error, and nothing has changed. Links do not
// count here, because an untrusted user may own the folder of the folders.
func (c *Client) assign(rows map[string]managed.Certificate) ([]Set, folders, error) {
	sets, owners := make([]Set, len(c.cfg.Sets)), folders{}
	for i, set := range c.named(rows) {
		dir := filepath.Join(c.cfg.Dir, cert.FolderName(set.Name))
		if other, taken := owners[owners.key(dir)]; taken {
			return nil, nil, &SharedFolderError{Dir: dir, One: other.Names, Other: set.Names}
		}
		sets[i], owners[owners.key(dir)] = set, set
	}
	return sets, owners, nil
}

// SharedFolderError reports two configured sets that would share a folder.
type SharedFolderError struct {
	Dir        string
	One, Other cert.Names
}

func (e *SharedFolderError) Error() string {
	return fmt.Sprintf("domain: the certificates for %q and %q would share the folder %s; put all their names into one, or give one of them a name of its own, such as other=%s",
		e.One.String(), e.Other.String(), e.Dir, e.Other.Key())
}

// isOthers reports whether a folder belongs to the certificate of other names.
func (c *Client) isOthers(dir string, names []string) bool {
	owners := c.owners.Load()
	if owners == nil {
		return false
	}
	set, taken := (*owners)[owners.key(dir)]
	return taken && !set.Names.Equal(names)
}

// checkLink returns an error if the folder of a row is a link to the folder of another
// configured set. Of several links to one folder, the first by name may be used.
func (c *Client) checkLink(row managed.Certificate) error {
	dir, owners := c.Dir(row), c.owners.Load()
	if owners == nil || !isLink(dir) {
		return nil
	}
	info, err := localfile.StatFolder(dir)
	if err != nil {
		return nil //nolint:nilerr // it is missing, or the write reports it
	}
	for key, set := range *owners {
		other := filepath.Join(c.cfg.Dir, cert.FolderName(set.Name))
		if set.Names.Equal(row.Names) || isLink(other) && key > owners.key(dir) {
			continue
		}
		if found, err := localfile.StatFolder(other); err == nil && os.SameFile(info, found) {
			return fmt.Errorf("cert-dir: %s is a link to the folder of the certificate for %q; remove the link", dir, set.Names.String())
		}
	}
	return nil
}

func isLink(path string) bool {
	info, err := os.Lstat(path)
	return err == nil && info.Mode()&(os.ModeSymlink|os.ModeIrregular) != 0 // irregular: a junction
}

// IsConfigured reports whether a row is one of the configured sets, which Start has seen.
func (c *Client) IsConfigured(row managed.Certificate) bool {
	for _, set := range c.cfg.Sets {
		if set.Names.Equal(row.Names) {
			return true
		}
	}
	return false
}

// rename stores the name of a row. Its files appear in another folder then, and those in
// the earlier one are not renewed.
func (c *Client) rename(ctx context.Context, row *managed.Certificate, name string) error {
	if row.Name == name {
		return nil
	}
	earlier, had := c.Dir(*row), row.Serial != ""
	if err := c.cfg.Store.SetName(ctx, row.ID, name); err != nil {
		return err
	}
	row.Name = name
	if dir := c.Dir(*row); had && dir != earlier {
		c.cfg.Logger.Warn("the certificate has another folder; the files in the earlier one are not renewed",
			"names", cert.Names(row.Names).String(), "folder", dir, "earlier", earlier)
	}
	return nil
}

// reportStale warns of files that are not renewed, because no set with their names is
// configured.
func (c *Client) reportStale(rows map[string]managed.Certificate) {
	for _, row := range rows {
		dir := c.Dir(row)
		if c.IsConfigured(row) || c.isOthers(dir, row.Names) {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, certfile.Fullchain)); err == nil {
			c.cfg.Logger.Warn("a certificate is not configured any more; its files are not renewed",
				"certificate", row.ID, "names", cert.Names(row.Names).String(), "folder", dir, "not_after", row.NotAfter)
		}
	}
}
