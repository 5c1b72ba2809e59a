// Package certfile keeps a bundle in a folder under certbot's file names:
// cert.pem, chain.pem, fullchain.pem and privkey.pem.
//
//	err := certfile.Write("/etc/ssl/web1", bundle)
//
// All four change at once: they are symbolic links through one link,
// .acmeproxy/current, which is replaced by a rename. A reader sees the old set
// or the new one, and so does the disk after a crash. The key has mode 0600.
package certfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// The file names of a set.
const (
	Cert      = "cert.pem"
	Chain     = "chain.pem"
	Fullchain = "fullchain.pem"
	Key       = "privkey.pem"
)

const (
	versions = ".acmeproxy" // in the set's folder
	current  = "current"    // in versions, a link to the version in use
)

// Write installs the bundle in dir, which is made (mode 0755) if need be. The
// set that was there stays until the new one is whole. A bundle that has no
// key is an error: a set without one serves nobody.
func Write(dir string, b *cert.Bundle) error {
	key, err := b.KeyPEM()
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := os.MkdirAll(filepath.Join(dir, versions), 0o755); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	version, err := os.MkdirTemp(filepath.Join(dir, versions), b.Leaf.NotBefore.UTC().Format("20060102T150405-"))
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	set := []struct {
		name string
		data []byte
		mode fs.FileMode
	}{
		{Key, key, 0o600},
		{Cert, b.LeafPEM(), 0o644},
		{Chain, b.ChainPEM(), 0o644},
		{Fullchain, b.FullchainPEM(), 0o644},
	}
	for _, f := range set {
		if err := writeFile(filepath.Join(version, f.name), f.data, f.mode); err != nil {
			return errors.Join(err, os.RemoveAll(version))
		}
	}
	if err := publish(dir, version); err != nil {
		return err
	}
	return prune(dir, filepath.Base(version))
}

// writeFile makes a new file and has it on the disk before it returns.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	defer f.Close()
	if _, err := f.Write(data); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	return f.Close()
}

// publish makes version the current one.
func publish(dir, version string) error {
	// Others than root must reach the certificates; the key has its own mode.
	if err := os.Chmod(version, 0o755); err != nil {
		return fmt.Errorf("publish the certificate: %w", err)
	}
	if err := syncDir(version); err != nil {
		return err
	}
	link := filepath.Join(dir, versions, current)
	if err := renameio.Symlink(filepath.Base(version), link); err != nil {
		return fmt.Errorf("publish the certificate: %w", err)
	}
	if err := syncDir(filepath.Dir(link)); err != nil {
		return err
	}
	for _, name := range []string{Key, Cert, Chain, Fullchain} {
		target := filepath.Join(versions, current, name)
		path := filepath.Join(dir, name)
		if got, err := os.Readlink(path); err == nil && got == target {
			continue
		}
		if err := renameio.Symlink(target, path); err != nil {
			return fmt.Errorf("publish the certificate: %w", err)
		}
	}
	return syncDir(dir)
}

// prune removes what was before the previous version, which a service may
// still have open, and what a crash left half written.
func prune(dir, keep string) error {
	entries, err := os.ReadDir(filepath.Join(dir, versions)) // sorted, so by date
	if err != nil {
		return fmt.Errorf("remove old certificates: %w", err)
	}
	var old []string
	for _, e := range entries {
		if e.IsDir() && e.Name() != keep {
			old = append(old, e.Name())
		}
	}
	for _, name := range old[:max(len(old)-1, 0)] {
		if err := os.RemoveAll(filepath.Join(dir, versions, name)); err != nil {
			return fmt.Errorf("remove old certificates: %w", err)
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Read loads the set in dir. fs.ErrNotExist means that there is none.
func Read(dir string) (*cert.Bundle, error) {
	key, err := os.ReadFile(filepath.Join(dir, Key))
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	chain, err := os.ReadFile(filepath.Join(dir, Fullchain))
	if err != nil {
		return nil, fmt.Errorf("read the certificate: %w", err)
	}
	b, err := cert.ParseBundle(append(key, chain...))
	if err != nil {
		return nil, fmt.Errorf("read the certificate in %s: %w", dir, err)
	}
	return b, nil
}
