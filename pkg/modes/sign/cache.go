package sign

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// maxFile bounds the files that are read, in bytes. A chain is far smaller.
const maxFile = 256 << 10

const (
	csrFile   = "csr.pem"
	chainFile = "cert.pem"
)

// cache stores chains by the bytes of their CSR, in the folders and files of ACMEMS: the
// SHA-384 of the CSR in hexadecimal, two digits of it as the outer folder. Both programs can
// use the same folder.
type cache struct {
	dir    string        // empty: nothing is cached
	within time.Duration // a chain that ends earlier does not count
}

func newCache(s acmems.Storage) cache { return cache{s.Dir, s.RenewWithin} }

func (c cache) folder(body []byte) string {
	sum := sha512.Sum384(body)
	name := hex.EncodeToString(sum[:])
	return filepath.Join(c.dir, name[:2], name[2:])
}

// get returns the chain of a CSR, or nil. An entry that cannot be used does not count,
// because a new certificate replaces it.
func (c cache) get(body []byte, csr *cert.CSR, now time.Time) ([]byte, error) {
	if c.dir == "" {
		return nil, nil
	}
	dir := c.folder(body)
	stored, err := readFile(filepath.Join(dir, csrFile))
	if err != nil || !bytes.Equal(stored, body) {
		return nil, ignoreMissing(err)
	}
	chain, err := readFile(filepath.Join(dir, chainFile))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	bundle, err := cert.NewBundle(chain, nil, csr.Public, csr.Names)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, chainFile), err)
	}
	if bundle.NotAfter().Sub(now) < c.within {
		return nil, nil
	}
	return chain, nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func readFile(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(data) > maxFile {
		err = fmt.Errorf("%s: larger than %d bytes", name, maxFile)
	}
	return data, err
}

// put stores or replaces a chain. After a crash, the entry is the old one or the new one.
func (c cache) put(body, chain []byte) error {
	if c.dir == "" {
		return nil
	}
	dir := c.folder(body)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if stored, err := readFile(filepath.Join(dir, csrFile)); err != nil || !bytes.Equal(stored, body) {
		if err := replace(dir, csrFile, body); err != nil {
			return err
		}
	}
	return replace(dir, chainFile, chain)
}

// replace writes a file under another name and renames it.
func replace(dir, name string, data []byte) (err error) {
	f, err := os.CreateTemp(dir, "."+name+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Chmod(0o644); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), filepath.Join(dir, name))
}
