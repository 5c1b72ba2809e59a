package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

func readSet(dir string) (*cert.Bundle, error) { return certfile.Read(dir) }

// verify checks a bundle as a TLS client would that trusts this CA only.
func verify(b *cert.Bundle, want cert.Names, rootsPEM []byte) error {
	got, err := b.Names()
	if err != nil {
		return err
	}
	if !got.Equal(want) {
		return fmt.Errorf("the certificate is for %s, not for %s", got, want)
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	if !opts.Roots.AppendCertsFromPEM(rootsPEM) {
		return errors.New("the CA has no root")
	}
	for _, c := range b.Chain {
		opts.Intermediates.AddCert(c)
	}
	_, err = b.Leaf.Verify(opts)
	return err
}

// secretsOf is the text of a set's key, of which not one line may be found on
// the proxy.
func secretsOf(dir string) ([]string, error) {
	pem, err := os.ReadFile(filepath.Join(dir, certfile.Key))
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range strings.Lines(string(pem)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			lines = append(lines, line)
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s holds no key", dir)
	}
	return lines, nil
}

// disk shows what the proxy has on its disk and searches all of it, database
// included, for secrets that must not be there.
func (s *story) disk(secrets []string) error {
	s.say("on the proxy's disk:")
	return filepath.WalkDir(s.path(dmz), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, err := filepath.Rel(s.path(dmz), path)
		if err != nil {
			return err
		}
		if d.Type()&(fs.ModeSymlink|fs.ModeSocket) != 0 {
			return nil
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(rel, certfile.Key) && bytes.Contains(data, []byte("PRIVATE KEY")) {
			return fmt.Errorf("%s holds a plaintext key", rel)
		}
		for _, secret := range secrets {
			if bytes.Contains(data, []byte(secret)) {
				return fmt.Errorf("%s holds %q, which must not be there", rel, secret)
			}
		}
		s.say("  %-62s %s", rel, describe(rel, data))
		return nil
	})
}

// describe says what a file of the data directory is.
func describe(rel string, data []byte) string {
	switch {
	case strings.HasSuffix(rel, certfile.Key):
		return "the key of the proxy's own host"
	case strings.HasSuffix(rel, ".pem"):
		return "certificates of the proxy's own host"
	case strings.HasSuffix(rel, "identity.age"):
		return "opens the proxy's own secrets"
	case strings.HasPrefix(rel, "acmeproxy.db"):
		return "database; all keys and bundles in it are age ciphertext"
	}
	return ""
}
