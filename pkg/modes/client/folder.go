package client

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// claim returns the owner of a row's folder. Instances on one database have the same
// identity, so they may share the folder.
func (c *Client) claim(row managed.Certificate) certfile.Claim {
	return certfile.Claim{Owner: certfile.Owner{
		Program: "serve", Dir: c.cfg.DataDir, ID: c.cfg.Identity.Recipient().String(), Name: nameOf(row),
	}, Copied: func(path string) {
		c.cfg.Logger.Warn("kept a copy of a file that was not ours", "names", row.Names, "copy", path)
	}}
}

// folderError returns err with the remedy if the folder belongs to another certificate
// or program.
func folderError(err error) error {
	var owned *certfile.OwnedError
	var foreign *certfile.ForeignFilesError
	switch {
	case errors.As(err, &owned):
		return fmt.Errorf("cert-dir: %w; use another folder, or remove %s if that certificate is gone", err, filepath.Join(owned.Dir, ".acmeproxy", "owner"))
	case errors.As(err, &foreign):
		return fmt.Errorf("cert-dir: %w; use another folder, or move them away", err)
	}
	return err
}
