package client

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// claim returns the owner of a set's folder. Instances on one database have the same
// identity, so they may share the folder.
func (c *Client) claim(set cert.Names) certfile.Claim {
	return certfile.Claim{Owner: certfile.Owner{
		Program: "serve", Dir: c.cfg.DataDir, ID: c.cfg.Identity.Recipient().String(), Name: cert.StoredName(set[0]),
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
