package remote

import (
	"context"
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

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Wanted is a certificate that this host keeps on its disk.
type Wanted struct {
	Names   cert.Names
	Mode    clients.Mode // agent or gateway
	KeyType cert.KeyType // empty: ec256
	Out     string       // absolute; the folder of the files
	Hook    string
	Profile string // of the CA; empty: its default
	certfile.Layout
}

// Kept is a Wanted and how far it has come. The state directory has a file for each.
type Kept struct {
	Wanted
	ID       string // at the proxy; agent mode
	ETag     string // of the bundle on the disk; agent mode
	Serial   string
	NotAfter time.Time
	// HookDue is set before the files change and cleared when the hook has
	// succeeded, so that a crash in between runs it again.
	HookDue bool
	// Revoking is what the proxy is asked until its answer is known. Revoked is
	// the serial number of a certificate that must not stay on the disk.
	Revoking    *revoking
	Revoked     string
	Failures    int
	LastError   string
	NextAttempt time.Time
	// Transient says that the last attempt failed with the CA for a temporary
	// reason, so that a success with it ends the delay.
	Transient bool
	// AskAgain is when the daemon may ask the proxy for another bundle than one
	// that it cannot open.
	AskAgain time.Time

	path      string
	forgotten bool // the file is removed and must not be written again
}

// Ready reports whether the files could be written: the folder, its space, their
// owner, the password. It writes nothing, and is asked before anything is
// remembered.
func (w *Wanted) Ready() error {
	return errors.Join(outError(w.Writable(w.Out)), w.Layout.Ready())
}

func outError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("out: %w", err)
	}
	return fmt.Errorf("out: %w; run this as a user who may, or name another folder", err)
}

// Risk describes who else could replace the files, with the remedy; empty if no
// other user could. The certificate is stored all the same.
func (w *Wanted) Risk() string {
	if risk := certfile.Risk(w.Out); risk != "" {
		return "out: " + risk
	}
	return ""
}

// Validate reports every fault, each with its field.
func (w *Wanted) Validate() error {
	var faults []error
	if !w.Mode.IsGrantable() {
		faults = append(faults, fmt.Errorf("mode: %q is none; write agent or gateway", w.Mode))
	}
	if _, err := cert.ParseKeyType(string(w.KeyType)); err != nil {
		faults = append(faults, fmt.Errorf("key_type: %w", err))
	}
	if !filepath.IsAbs(w.Out) {
		faults = append(faults, fmt.Errorf("out: %q is not an absolute path", w.Out))
	}
	if err := w.Layout.Validate(); err != nil {
		faults = append(faults, err)
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
	if w.KeyType == "" {
		w.KeyType = cert.EC256
	}
	k, err := readKept(s.keptPath(w.Mode, w.Names))
	if errors.Is(err, fs.ErrNotExist) {
		k, err = &Kept{path: s.keptPath(w.Mode, w.Names)}, nil
	}
	if err != nil {
		return nil, err
	}
	if k.Out != w.Out {
		k.ETag = "" // install there, too
	}
	if k.KeyType != w.KeyType {
		k.ID, k.ETag, k.NextAttempt = "", "", time.Time{} // ask anew
	}
	if k.Profile != w.Profile {
		k.ID, k.NextAttempt = "", time.Time{} // ask anew; what is on the disk is the old one
	}
	k.Wanted = w
	return k, nil
}

func (s *State) keptPath(mode clients.Mode, names cert.Names) string {
	sum := sha256.Sum256([]byte(string(mode) + "\n" + names.Key()))
	return filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
}

// Kept lists what this host keeps fresh, by name. Files that cannot be read are
// the error, and the others are returned all the same.
func (s *State) Kept() ([]Kept, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, certificatesName, "*.json"))
	if err != nil {
		return nil, err
	}
	all, faults := []Kept{}, []error(nil)
	for _, path := range files {
		switch k, err := readKept(path); {
		case err == nil:
			all = append(all, *k)
		case !errors.Is(err, fs.ErrNotExist): // else it was forgotten meanwhile
			faults = append(faults, err)
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return strings.Compare(a.Names.Key(), b.Names.Key()) })
	return all, errors.Join(faults...)
}

// remember keeps a wanted certificate, with what is known of it already.
func (s *State) remember(ctx context.Context, w Wanted) error {
	unlock, err := lock(ctx, lockOf(s.keptPath(w.Mode, w.Names)))
	if err != nil {
		return err
	}
	defer unlock()
	k, err := s.kept(w)
	if err != nil {
		return err
	}
	return k.save()
}

// Remembered is how a certificate of these names was asked for last time.
func (s *State) Remembered(mode clients.Mode, names cert.Names) (Wanted, bool) {
	data, err := localfile.Read(s.keptPath(mode, names))
	var f keptFile
	if err != nil || json.Unmarshal(data, &f) != nil {
		return Wanted{}, false // get itself says what is wrong with the file
	}
	return f.kept("").Wanted, true
}

// Forget stops keeping the certificates of these names fresh, in either mode.
// The files stay. It tells how many were forgotten. Whoever works on one is
// waited for, or it would be kept again as soon as that is done.
func (s *State) Forget(ctx context.Context, names cert.Names) (int, error) {
	n := 0
	for _, mode := range clients.GrantableModes() {
		gone, err := s.forget(ctx, &Kept{path: s.keptPath(mode, names)})
		if err != nil {
			return n, err
		}
		if gone {
			n++
		}
	}
	return n, nil
}

func (s *State) forget(ctx context.Context, k *Kept) (gone bool, err error) {
	unlock, err := k.lock(ctx)
	if err != nil {
		return false, err
	}
	defer unlock()
	k.removeLeftovers()
	switch err := os.Remove(k.path); {
	case err == nil:
		return true, nil
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	default:
		return false, fmt.Errorf("state-dir: %w", err)
	}
}
