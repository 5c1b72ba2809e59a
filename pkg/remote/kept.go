package remote

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Wanted describes a certificate that this host must have on its disk.
type Wanted struct {
	// Name identifies the certificate in the state directory. If it is empty, Find
	// says which certificate is meant.
	Name    string
	First   string // the first of Names as the administrator gave them; decides the default of Name
	Names   cert.Names
	Mode    clients.Mode // agent or gateway
	KeyType cert.KeyType // if empty, ec256
	Out     string       // folder of the files, an absolute path
	Hook    string
	Profile string // of the CA; if empty, its default
	Source  string // the configuration file that lists it; empty: a command requested it
	certfile.Layout
}

func (w *Wanted) defaultName() string {
	if w.First != "" {
		return cert.StoredName(w.First)
	}
	return cert.StoredName(w.Names[0])
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
	WaitUntil  time.Time
	ProxyAsked bool // WaitUntil is the wish of the proxy, not of the CA
	// Tries are the times of the attempts that a start or a person caused, oldest first;
	// gateway mode.
	Tries []time.Time
	// Proposed counts the attempts at names that the CA refused; gateway mode.
	Proposed *proposal
	// Transient is set if the last attempt failed at the CA for a temporary reason.
	// A success of another certificate then ends the delay.
	Transient bool
	// AskAgain is when the daemon may ask the proxy to replace a bundle that it
	// cannot open.
	AskAgain time.Time

	// Unlisted is set if the configuration file Source no longer lists it.
	Unlisted bool
	// Former is the certificate on the disk, while the one with the new names or mode
	// is not installed yet.
	Former *former
	// Withdraw holds the IDs of replaced certificates that the proxy still manages.
	Withdraw []string
	// Forgetting is set while the proxy is asked to end its work.
	Forgetting *forgetting

	path       string
	twins      []string          // state files of the same certificate
	try        bool              // a person acted before this turn of the daemon
	counted    bool              // the last of Tries is of this turn
	hookFailed error             // in this turn or command; it is not repeated there
	replaced   bool              // this command or reload changed the names or the mode
	proposed   *Kept             // see proposedKept; nil: this command proposes nothing
	forgotten  bool              // the file is removed and must not be written again
	rival      string            // stored name of the certificate that has the folder; empty: this one
	covered    bool              // the rival has all its names
	repeated   bool              // the rival has exactly its names
	options    GetOptions        // of the command that runs
	outdated   bool              // the certificate on the disk has another profile
	unchanged  bool              // the command changed nothing
	shared     []error           // see StillShared
	store      func(*Kept) error // if not nil, replaces save
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
	case localfile.IsFull(err):
		return fmt.Errorf("out: %w", err)
	case errors.Is(err, fs.ErrNotExist): // a folder that has gone, or one of the system
		return fmt.Errorf("out: %w; use another folder", err)
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
	if !w.Mode.IsNative() {
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

// loadKept returns w with its state, which it reads from the disk if there is one.
func (s *State) loadKept(w Wanted) (*Kept, error) { return s.plan(w, GetOptions{Replace: true}) }

// keptPath returns the path of a state file of an earlier release.
func (s *State) keptPath(mode clients.Mode, names cert.Names) string {
	sum := sha256.Sum256([]byte(string(mode) + "\n" + names.Key()))
	return filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
}

// remember stores a wanted certificate. It preserves the state that is stored already.
func (s *State) remember(ctx context.Context, w Wanted) error {
	k, err := s.loadKept(w)
	if err != nil {
		return err
	}
	unlock, err := k.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if k, err = s.loadKept(w); err != nil {
		return err
	}
	return k.save()
}
