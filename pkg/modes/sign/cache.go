package sign

import (
	"bytes"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

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
	stored, err := localfile.ReadAny(filepath.Join(dir, csrFile))
	if err != nil || !bytes.Equal(stored, body) {
		return nil, ignoreMissing(err)
	}
	chain, err := localfile.ReadAny(filepath.Join(dir, chainFile))
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

// put stores or replaces a chain. After a crash, the entry is the old one or the new one.
func (c cache) put(body, chain []byte) error {
	if c.dir == "" {
		return nil
	}
	dir := c.folder(body)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if stored, err := localfile.ReadAny(filepath.Join(dir, csrFile)); err != nil || !bytes.Equal(stored, body) {
		if err := localfile.Replace(filepath.Join(dir, csrFile), body); err != nil {
			return err
		}
	}
	return localfile.Replace(filepath.Join(dir, chainFile), chain)
}
