package remote

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// Wanted is a certificate that this host keeps on its disk.
type Wanted struct {
	Names   cert.Names   `json:"names"`
	Mode    string       `json:"mode"` // agent or gateway
	KeyType cert.KeyType `json:"key_type"`
	Out     string       `json:"out"` // absolute; the folder of the PEM set
	Hook    string       `json:"hook,omitempty"`
}

// Kept is a Wanted and how far it has come.
type Kept struct {
	Wanted
	ID       string    `json:"id,omitempty"`   // at the proxy; agent mode
	ETag     string    `json:"etag,omitempty"` // of the bundle on the disk; agent mode
	Serial   string    `json:"serial,omitempty"`
	NotAfter time.Time `json:"not_after,omitzero"`
	// HookDue is set before the files change and cleared when the hook has
	// succeeded, so that a crash in between runs it again.
	HookDue     bool      `json:"hook_due,omitempty"`
	Failures    int       `json:"failures,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`

	path string
}

// Validate reports every fault, each with its field.
func (w *Wanted) Validate() error {
	var faults []error
	if w.Mode != api.ModeAgent && w.Mode != api.ModeGateway {
		faults = append(faults, fmt.Errorf("mode: %q is none; write agent or gateway", w.Mode))
	}
	if !filepath.IsAbs(w.Out) {
		faults = append(faults, fmt.Errorf("out: %q is not an absolute path", w.Out))
	}
	if len(w.Names) == 0 {
		faults = append(faults, errors.New("names: missing; write at least one DNS name"))
	}
	return errors.Join(faults...)
}

// kept loads what is known of a wanted certificate; what it wants is taken
// from w, the rest from the disk if it was about the same names and mode.
func (s *State) kept(w Wanted) (*Kept, error) {
	if err := w.Validate(); err != nil {
		return nil, err
	}
	k := &Kept{path: s.keptPath(w.Mode, w.Names)}
	data, err := os.ReadFile(k.path)
	if err == nil {
		err = json.Unmarshal(data, k)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state-dir: %s: %w; remove that file", k.path, err)
	}
	if k.Out != w.Out {
		k.ETag = "" // install there, too
	}
	if k.KeyType != w.KeyType {
		k.ID, k.ETag, k.NextAttempt = "", "", time.Time{} // ask anew
	}
	k.Wanted = w
	return k, nil
}

func (s *State) keptPath(mode string, names cert.Names) string {
	sum := sha256.Sum256([]byte(mode + "\n" + names.Key()))
	return filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
}

// save writes what is known, whole or not at all.
func (k *Kept) save() error {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return err
	}
	if err := renameio.WriteFile(k.path, append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}

// Kept lists what this host keeps fresh, by name.
func (s *State) Kept() ([]Kept, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, certificatesName, "*.json"))
	if err != nil {
		return nil, err
	}
	all := []Kept{}
	for _, path := range files {
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // forgotten meanwhile
		}
		k := Kept{path: path}
		if err == nil {
			err = json.Unmarshal(data, &k)
		}
		if err != nil {
			return nil, fmt.Errorf("state-dir: %s: %w; remove that file", path, err)
		}
		all = append(all, k)
	}
	slices.SortFunc(all, func(a, b Kept) int { return strings.Compare(a.Names.Key(), b.Names.Key()) })
	return all, nil
}

// Forget stops keeping the certificates of these names fresh, in either mode.
// The files stay. It tells how many were forgotten.
func (s *State) Forget(names cert.Names) (int, error) {
	n := 0
	for _, mode := range []string{api.ModeAgent, api.ModeGateway} {
		switch err := os.Remove(s.keptPath(mode, names)); {
		case err == nil:
			n++
		case !errors.Is(err, fs.ErrNotExist):
			return n, fmt.Errorf("state-dir: %w", err)
		}
	}
	return n, nil
}

// lock lets one process at a time work on one certificate: a get by hand and
// the daemon may meet.
func (k *Kept) lock() (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(k.path), 0o700); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	f, err := os.OpenFile(strings.TrimSuffix(k.path, ".json")+".lock", os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX); err != nil {
		f.Close()
		return nil, fmt.Errorf("state-dir: lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}
