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

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Wanted describes a certificate that this host must have on its disk.
type Wanted struct {
	Names   cert.Names
	Mode    clients.Mode // agent or gateway
	KeyType cert.KeyType // if empty, ec256
	Out     string       // folder of the files, an absolute path
	Hook    string
	Profile string // of the CA; if empty, its default
	certfile.Layout
}

// Kept holds a Wanted and its state. The state directory has a file for each.
type Kept struct {
	Wanted
	ID       string // at the proxy; agent mode
	ETag     string // of the bundle on the disk; agent mode
	Serial   string
	NotAfter time.Time
	// HookDue is set before the files change and cleared when the hook has
	// succeeded. So the hook runs again after a crash in between.
	HookDue bool
	// Revoking is the request that is repeated until the proxy's answer is known.
	Revoking *revoking
	// Revoked is the serial number of a certificate that must not stay on the disk.
	Revoked     string
	Failures    int
	LastError   string
	NextAttempt time.Time
	// WaitUntil is the earliest attempt that the CA or the proxy allows, or zero if it
	// did not ask to wait. Then a person can end the delay.
	WaitUntil time.Time
	// Tries are the times of the attempts that a start or a person caused, oldest first;
	// gateway mode.
	Tries []time.Time
	// Transient is set if the last attempt failed at the CA for a temporary reason.
	// A success of another certificate then ends the delay.
	Transient bool
	// AskAgain is when the daemon may ask the proxy to replace a bundle that it
	// cannot open.
	AskAgain time.Time

	path       string
	try        bool  // a person acted before this turn of the daemon
	counted    bool  // the last of Tries is of this turn
	hookFailed error // in this turn or command; it is not repeated there
	forgotten  bool  // the file is removed and must not be written again
}

// Ready returns an error if the files could not be written. It checks the folder, its
// space, the files' owner and the password. It writes nothing. Callers call it before
// they store anything.
func (w *Wanted) Ready() error {
	return errors.Join(outError(w.Writable(w.Out)), w.Layout.Ready())
}

func outError(err error) error {
	switch {
	case err == nil:
		return nil
	case localfile.IsFull(err), errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("out: %w", err)
	}
	return fmt.Errorf("out: %w; run this as a user who can write there, or use another folder", err)
}

// Risk describes which other user could replace the files, with the remedy. It
// returns "" if no other user could. A risk does not prevent storing the certificate.
func (w *Wanted) Risk() string {
	if risk := certfile.Risk(w.Out); risk != "" {
		return "out: " + risk
	}
	return ""
}

// Validate returns all faults, each with its field.
func (w *Wanted) Validate() error {
	var faults []error
	if !w.Mode.IsGrantable() {
		faults = append(faults, fmt.Errorf("mode: %q is unknown; use agent or gateway", w.Mode))
	}
	if _, err := cert.ParseKeyType(string(w.KeyType)); err != nil {
		faults = append(faults, fmt.Errorf("key_type: %w", err))
	}
	if !filepath.IsAbs(w.Out) {
		faults = append(faults, fmt.Errorf("out: %q is relative; use an absolute path", w.Out))
	}
	if err := w.Layout.Validate(); err != nil {
		faults = append(faults, err)
	}
	if len(w.Names) == 0 {
		faults = append(faults, errors.New("names: missing; use at least one DNS name"))
	}
	return errors.Join(faults...)
}

// loadKept returns w with its state, which it reads from the disk if there is a file
// for the same names and mode.
func (s *State) loadKept(w Wanted) (*Kept, error) {
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
		k.ETag = "" // install it in the new folder
	}
	if k.KeyType != w.KeyType {
		k.ID, k.ETag = "", "" // register again
	}
	if k.Profile != w.Profile {
		k.ID = "" // register again; the present bundle has the old profile
	}
	k.Wanted = w
	return k, nil
}

func (s *State) keptPath(mode clients.Mode, names cert.Names) string {
	sum := sha256.Sum256([]byte(string(mode) + "\n" + names.Key()))
	return filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
}

// Kept lists the certificates of this host, sorted by name. If some files cannot be
// read, it returns an error that names them together with the other certificates.
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
		case !errors.Is(err, fs.ErrNotExist): // else it was forgotten in the meantime
			faults = append(faults, err)
		}
	}
	slices.SortFunc(all, func(a, b Kept) int { return strings.Compare(a.Names.Key(), b.Names.Key()) })
	return all, errors.Join(faults...)
}

// remember stores a wanted certificate. It preserves the state that is stored already.
func (s *State) remember(ctx context.Context, w Wanted) error {
	unlock, err := lock(ctx, lockPath(s.keptPath(w.Mode, w.Names)))
	if err != nil {
		return err
	}
	defer unlock()
	k, err := s.loadKept(w)
	if err != nil {
		return err
	}
	return k.save()
}

// Remembered returns the last request for a certificate with these names and mode,
// and whether there is one.
func (s *State) Remembered(mode clients.Mode, names cert.Names) (Wanted, bool) {
	data, err := localfile.Read(s.keptPath(mode, names))
	var f keptFile
	if err != nil || json.Unmarshal(data, &f) != nil {
		return Wanted{}, false // Get reports a damaged file
	}
	return f.kept("").Wanted, true
}

// Forget stops renewing the certificates of these names, in both modes, and returns
// the modes of those that this host had. It does not remove their files. It waits for
// a process that works on one of them, because that would store it again.
func (s *State) Forget(ctx context.Context, names cert.Names) ([]clients.Mode, error) {
	var modes []clients.Mode
	for _, mode := range clients.GrantableModes() {
		gone, err := s.forget(ctx, &Kept{path: s.keptPath(mode, names)})
		if err != nil {
			return modes, err
		}
		if gone {
			modes = append(modes, mode)
		}
	}
	return modes, nil
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
