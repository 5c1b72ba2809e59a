package main

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// secretsOf returns the lines of a set's key. None of them may be on the proxy.
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

// disk shows what the proxy has on its disk, what is new or changed since the
// last look, and searches all of it, database included, for secrets that must
// not be there.
func (s *story) disk(secrets []string) error {
	files, err := readTree(s.path(dmz))
	if err != nil {
		return err
	}
	s.say("on the proxy's disk:")
	for _, name := range slices.Sorted(maps.Keys(files)) {
		data := files[name]
		if err := s.clean(name, data, secrets); err != nil {
			return err
		}
		mark := ""
		if old, seen := s.seen[name]; !seen {
			mark = "new"
		} else if !bytes.Equal(old, data) {
			mark = "changed"
		}
		if what := describe(name); what != "" {
			s.say("  %-7s  %-40s %s", mark, name, what)
		}
	}
	s.seen = files
	if len(secrets) > 0 {
		s.say("searched all of it, database and log included, for %d texts that must not be there: none found", len(secrets))
	}
	return nil
}

// clean returns an error if a file contains a secret.
func (s *story) clean(name string, data []byte, secrets []string) error {
	if filepath.Base(name) != certfile.Key && bytes.Contains(data, []byte("PRIVATE KEY")) {
		return fmt.Errorf("%s holds a plaintext key", name)
	}
	for _, secret := range secrets {
		if bytes.Contains(data, []byte(secret)) {
			return fmt.Errorf("%s holds %q, which must not be there", name, secret)
		}
	}
	return nil
}

// readTree reads all files below dir, the proxy's log with them. The PEM sets
// are read through their links, as a service would.
func readTree(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Type()&fs.ModeSocket != 0 {
			return err
		}
		info, err := os.Stat(path)
		if err != nil || info.IsDir() { // the link to the current version
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		files[rel], err = os.ReadFile(path)
		return err
	})
	if err != nil {
		return nil, err
	}
	files["../serve.log"], err = os.ReadFile(filepath.Join(dir, "..", "serve.log"))
	return files, err
}

// describe returns a description of a file of the data directory, or "" for files that
// the demo does not explain.
func describe(name string) string {
	switch {
	case strings.Contains(name, ".acmeproxy"):
		return "" // where the links of a PEM set lead
	case strings.HasSuffix(name, certfile.Key):
		return "the key of the proxy's own host"
	case strings.HasSuffix(name, ".pem"):
		return "its certificate"
	case name == "identity.age":
		return "opens the proxy's own secrets"
	case name == "acmeproxy.db":
		return "clients, audit trail; keys and bundles as age ciphertext"
	case name == "acmeproxy.db-wal":
		return "the database's newest changes"
	case name == "../serve.log":
		return "the proxy's log"
	}
	return ""
}
