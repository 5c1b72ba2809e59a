package remote

import (
	"bytes"
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

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Wanted is a certificate that this host keeps on its disk.
type Wanted struct {
	Names   cert.Names   `json:"names"`
	Mode    clients.Mode `json:"mode"`     // agent or gateway
	KeyType cert.KeyType `json:"key_type"` // empty: ec256
	Out     string       `json:"out"`      // absolute; the folder of the files
	Hook    string       `json:"hook,omitempty"`
	Profile string       `json:"profile,omitempty"` // of the CA; empty: its default
	certfile.Layout
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
	HookDue bool `json:"hook_due,omitempty"`
	// Revoking is what the proxy is asked until its answer is known. Revoked is
	// the serial number of a certificate that must not stay on the disk.
	Revoking    *revoking `json:"revoking,omitempty"`
	Revoked     string    `json:"revoked,omitempty"`
	Failures    int       `json:"failures,omitempty"`
	LastError   string    `json:"last_error,omitempty"`
	NextAttempt time.Time `json:"next_attempt,omitzero"`
	// Transient says that the last attempt failed with the CA for a temporary
	// reason, so that a success with it ends the delay.
	Transient bool `json:"transient,omitempty"`
	// AskAgain is when the daemon may ask the proxy for another bundle than one
	// that it cannot open.
	AskAgain time.Time `json:"ask_again,omitzero"`

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

// readKept reads one file of the state directory. fs.ErrNotExist means that
// nothing is kept there (any more).
func readKept(path string) (*Kept, error) {
	data, err := localfile.Read(path) // it names a command to run
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	k, err := parseKept(data)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %s is damaged: %w; remove it and get the certificate again", path, err)
	}
	k.path = path
	k.unpark(time.Now())
	return k, nil
}

func parseKept(data []byte) (*Kept, error) {
	k := &Kept{}
	if err := json.Unmarshal(data, k); err != nil {
		return nil, err
	}
	return k, k.Validate()
}

func (s *State) keptPath(mode clients.Mode, names cert.Names) string {
	sum := sha256.Sum256([]byte(string(mode) + "\n" + names.Key()))
	return filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
}

// save writes what is known, whole or not at all.
func (k *Kept) save() error {
	f, err := k.written(0)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}

// grows is how much larger a file of the state may be after an order.
const grows = 4 << 10

// storable reports whether both the files and the state can be written, by writing
// them aside and removing them. It is asked before the CA has work. The caller holds
// the lock.
func (k *Kept) storable(ctx context.Context) error {
	if err := outError(k.Probe(ctx, k.Out)); err != nil {
		return err
	}
	k.removeLeftovers()
	f, err := k.written(grows)
	if err == nil {
		err = errors.Join(f.Sync(), f.Cleanup())
	}
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}

// written returns the state in a file beside its place, with some space added.
func (k *Kept) written(more int) (*renameio.PendingFile, error) {
	dir := filepath.Dir(k.path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	data, err := json.MarshalIndent(k, "", "  ")
	if err != nil {
		return nil, err
	}
	f, err := renameio.NewPendingFile(k.path, renameio.WithTempDir(dir), renameio.WithStaticPermissions(0o600))
	if err != nil {
		return nil, err
	}
	data = append(append(data, '\n'), bytes.Repeat([]byte(" "), more)...)
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Cleanup())
	}
	return f, nil
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
	var k Kept
	if err != nil || json.Unmarshal(data, &k) != nil {
		return Wanted{}, false // get itself says what is wrong with the file
	}
	return k.Wanted, true
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

// lock lets one process at a time work on one certificate: a get by hand and
// the daemon may meet.
func (k *Kept) lock(ctx context.Context) (unlock func(), err error) {
	return lock(ctx, lockOf(k.path))
}

func lockOf(path string) string { return strings.TrimSuffix(path, ".json") + ".lock" }

// How long and how often a lock that another process holds is tried: flock itself
// would wait without end. A get that waits for the proxy may hold it longer; then the
// daemon tries again at its next turn.
const (
	lockFor   = 30 * time.Minute
	lockEvery = 100 * time.Millisecond
)

// lock holds a file, made if need be with its folder, against other processes
// and other callers in this one. The file stays: to remove it would let two in.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	again, end := time.NewTicker(lockEvery), time.NewTimer(lockFor)
	defer again.Stop()
	defer end.Stop()
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("state-dir: lock %s: %w", path, err), f.Close())
		}
		select {
		case <-again.C:
		case <-end.C:
			return nil, errors.Join(fmt.Errorf("state-dir: another process has held %s for %v; find it with fuser and stop it", path, lockFor), f.Close())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("state-dir: another process holds %s: %w", path, ctx.Err()), f.Close())
		}
	}
}
