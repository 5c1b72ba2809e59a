package client

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// named returns the configured sets with their names. A set whose names changed keeps
// the folder of the certificate that it replaces, because services read the files there.
func (c *Client) named(rows map[string]managed.Certificate) []Set {
	sets, wanted := slices.Clone(c.cfg.Sets), map[string]int{}
	for i, set := range sets {
		if row, stored := rows[set.Names.Key()]; stored && !set.Chosen {
			sets[i].Name = nameOf(row)
		}
		wanted[folderKey(sets[i].Name)]++
	}
	for i, set := range sets {
		// A row that is renewed is in the right folder. One without renewals was
		// configured at an earlier time, and another one may have replaced it.
		if set.Chosen || !rows[set.Names.Key()].DueAt.IsZero() {
			continue
		}
		wanted[folderKey(set.Name)]--
		sets[i].Name = c.inherited(c.cfg.Sets[i], set.Name, rows, wanted)
		wanted[folderKey(sets[i].Name)]++
	}
	return sets
}

// inherited returns the name of the certificate that a set replaces: of those with a
// common name that are renewed until now, but not configured. Without one, it
// returns the set's own name. wanted counts the folders of the other sets.
func (c *Client) inherited(set Set, own string, rows map[string]managed.Certificate, wanted map[string]int) string {
	var best *managed.Certificate
	for _, row := range rows {
		if row.DueAt.IsZero() || c.IsConfigured(row) || shared(set.Names, row.Names) == 0 || wanted[folderKey(nameOf(row))] > 0 || !c.hasFiles(row) {
			continue
		}
		if best == nil || compareHeritage(set, row, *best) > 0 {
			best = &row
		}
	}
	if best == nil {
		return own
	}
	return nameOf(*best)
}

// compareHeritage returns a positive number if a set replaces a rather than b.
func compareHeritage(set Set, a, b managed.Certificate) int {
	own := func(row managed.Certificate) int {
		if folderKey(nameOf(row)) == folderKey(set.Name) {
			return 1
		}
		return 0
	}
	return cmp.Or(
		own(a)-own(b),
		shared(set.Names, a.Names)-shared(set.Names, b.Names),
		a.NotBefore.Compare(b.NotBefore),
		cmp.Compare(a.ID, b.ID),
	)
}

// hasFiles reports whether services may read files in the folder of a row. Those of a
// row that was never obtained are of the certificate that it was to replace.
func (c *Client) hasFiles(row managed.Certificate) bool {
	if row.Serial != "" {
		return true
	}
	_, err := os.Lstat(filepath.Join(c.Dir(row), certfile.Fullchain))
	return err == nil
}

// shared returns the number of common names.
func shared(a, b cert.Names) (n int) {
	for _, name := range a {
		if slices.Contains(b, name) {
			n++
		}
	}
	return n
}

// folderKey returns the key of the folder of a stored name in folders.
func folderKey(name string) string { return folders(nil).key(cert.FolderName(name)) }
