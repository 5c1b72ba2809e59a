// Package accountdir stores the account at a CA in the folder of ACMEMS: the key in
// account.pem, and its URL in registration.json. An account of ACMEMS continues to work, and
// ACMEMS can use one that this package stored.
//
// The folder belongs to one CA. Both files are private; those of ACMEMS keep their modes until
// they are replaced. The key is never replaced.
//
//	accounts := accountdir.New("/etc/acmems/account")
//	key, url, contact, err := accounts.Account(ctx, directoryURL)
package accountdir

import (
	"context"
	"crypto"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

const (
	keyFile          = "account.pem"
	registrationFile = "registration.json"
)

// Folder implements issuer.Accounts with a folder. It may be used concurrently.
type Folder struct {
	dir string
	mu  sync.Mutex // held by each method, so that they see both files as one
}

// New returns the Folder at a path. It touches no file.
func New(dir string) *Folder { return &Folder{dir: dir} }

// registration is the registration resource of python-acme, as far as it matters here.
type registration struct {
	Body struct {
		Contact []string `json:"contact"`
	} `json:"body"`
	URI string `json:"uri"`
}

// Account returns the key, which it creates if there is no file, and the account's URL and
// contact. Both are empty before SetURL. The folder has one account, whatever the directory.
func (f *Folder) Account(_ context.Context, _ string) (key crypto.Signer, url, email string, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key, err = f.loadKey()
	if errors.Is(err, fs.ErrNotExist) {
		if err = f.createKey(); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, "", "", fmt.Errorf("create the account's key: %w", err)
		}
		key, err = f.loadKey()
	}
	if err != nil {
		return nil, "", "", err
	}
	var known registration
	if err = f.readRegistration(&known); err != nil {
		return nil, "", "", err
	}
	for _, contact := range known.Body.Contact {
		if address, ok := strings.CutPrefix(contact, "mailto:"); ok && email == "" {
			email = address
		}
	}
	return key, known.URI, email, nil
}

func (f *Folder) loadKey() (crypto.Signer, error) {
	path := filepath.Join(f.dir, keyFile)
	text, err := localfile.Read(path)
	if err != nil {
		return nil, fmt.Errorf("read the account's key: %w", err)
	}
	key, err := cert.ParseKey(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; restore it from a backup, or remove it to register a new account", path, err)
	}
	return key, nil
}

// createKey writes a new key to a temporary file and links it to its name. It never replaces
// a key: with fs.ErrExist, another process has created one.
func (f *Folder) createKey() error {
	key, err := cert.GenerateKey(cert.RSA4096)
	if err != nil {
		return err
	}
	text, err := cert.MarshalKey(key)
	if err != nil {
		return err
	}
	if err := localfile.MkdirPrivate(f.dir); err != nil {
		return err
	}
	temporary, err := os.CreateTemp(f.dir, "."+keyFile+"-*")
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(temporary.Name()) }() // the link stays
	defer temporary.Close()
	if err := localfile.SetMode(temporary, 0o600); err != nil {
		return err
	}
	if _, err := temporary.Write(text); err != nil {
		return err
	}
	if err := temporary.Sync(); err != nil {
		return err
	}
	if err := os.Link(temporary.Name(), filepath.Join(f.dir, keyFile)); err != nil {
		return err
	}
	dir, err := os.Open(f.dir)
	if err != nil {
		return err
	}
	defer dir.Close()
	return localfile.SyncDir(dir)
}

// readRegistration reads the registration into v, if there is a file.
func (f *Folder) readRegistration(v any) error {
	path := filepath.Join(f.dir, registrationFile)
	text, err := localfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read the account's registration: %w", err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		return fmt.Errorf("%s: not a registration in JSON; restore it, or remove it to ask the CA for it", path)
	}
	return nil
}

// SetURL stores the account's URL and contact. What else ACMEMS stored remains. An empty URL
// means that the CA has lost the account; then the file is renamed, so that ACMEMS does not
// use it.
func (f *Folder) SetURL(_ context.Context, _, url, email string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	path := filepath.Join(f.dir, registrationFile)
	if url == "" {
		if err := os.Rename(path, path+".lost"); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	}
	whole, body := map[string]any{}, map[string]any{}
	if err := f.readRegistration(&whole); err != nil {
		return err
	}
	if known, ok := whole["body"].(map[string]any); ok {
		body = known
	}
	if email != "" {
		body["contact"] = []string{"mailto:" + email}
	}
	whole["body"], whole["uri"] = body, url
	text, err := json.MarshalIndent(whole, "", "    ")
	if err != nil {
		return err
	}
	return localfile.Replace(path, append(text, '\n'))
}
