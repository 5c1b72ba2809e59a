//go:build unix

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

// secret is a text that must not be on the proxy's disk.
type secret struct {
	what string // for the reader
	text string
}

// keyLines returns the lines of a set's key. None of them may be on the proxy.
func keyLines(dir string) ([]secret, error) {
	pem, err := os.ReadFile(filepath.Join(dir, certfile.Key))
	if err != nil {
		return nil, err
	}
	var lines []secret
	for line := range strings.Lines(string(pem)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			lines = append(lines, secret{fmt.Sprintf("line %d of the key", len(lines)+1), line})
		}
	}
	if len(lines) == 0 {
		return nil, fmt.Errorf("%s holds no key", dir)
	}
	return lines, nil
}

// disk shows what the proxy has on its disk, what is new or changed since the
// last look, and searches all of it, database included, for a host's secrets. The
// same search must find them on the host, or it would prove nothing.
func (s *story) disk(host string, secrets []secret) error {
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
	if len(secrets) == 0 {
		return nil
	}
	s.say("searched all of it, database and log included, for what must not be there:")
	own, err := readFiles(s.path(host))
	if err != nil {
		return err
	}
	for _, secret := range secrets {
		where := find(own, secret.text)
		if where == "" {
			return fmt.Errorf("the search for %s does not find it on %s either, so it proves nothing", secret.what, host)
		}
		s.say("  %-18s %-30s not found here; the same search finds it on %s, in %s", secret.what, start(secret.text), host, where)
	}
	return nil
}

// start returns the start of a text.
func start(text string) string {
	if len(text) > 28 {
		return text[:27] + "…"
	}
	return text
}

// find returns the first file that contains a text, or an empty string.
func find(files map[string][]byte, text string) string {
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if bytes.Contains(files[name], []byte(text)) && !strings.Contains(name, ".acmeproxy") {
			return name
		}
	}
	return ""
}

// clean returns an error if a file contains a secret.
func (s *story) clean(name string, data []byte, secrets []secret) error {
	if filepath.Base(name) != certfile.Key && bytes.Contains(data, []byte("PRIVATE KEY")) {
		return fmt.Errorf("%s holds a plaintext key", name)
	}
	for _, secret := range secrets {
		if bytes.Contains(data, []byte(secret.text)) {
			return fmt.Errorf("%s holds %s, which must not be there", name, secret.what)
		}
	}
	return nil
}

// readTree reads all files below the proxy's folder, and its log.
func readTree(dir string) (map[string][]byte, error) {
	files, err := readFiles(dir)
	if err != nil {
		return nil, err
	}
	files["../serve.log"], err = os.ReadFile(filepath.Join(dir, "..", "serve.log"))
	return files, err
}

// readFiles reads all files below dir. The PEM sets are read through their links, as a
// service would.
func readFiles(dir string) (map[string][]byte, error) {
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
