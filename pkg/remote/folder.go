package remote

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// FolderError reports a folder that belongs to another certificate of this host.
type FolderError struct {
	Out    string
	Name   string // stored name of the certificate that has the folder
	Rival  string // stored name of the kept one that must not write there; empty: a new one
	Source string // the configuration file that lists the rival
	// Covered is set if the certificate that has the folder has all names of the rival.
	Covered bool
}

func (e *FolderError) Error() string {
	return fmt.Sprintf("out: %s belongs to the certificate %q; use another folder", e.Out, e.Name)
}

// DefaultOut returns the folder of a certificate of that stored name, if no other is
// chosen.
func (s *State) DefaultOut(name string) string {
	return filepath.Join(s.defaultFolder(), cert.FolderName(name))
}

// defaultFolder returns the folder of the default folders.
func (s *State) defaultFolder() string {
	dir, err := filepath.Abs(s.Dir)
	if err != nil {
		dir = s.Dir
	}
	return filepath.Join(dir, "certs")
}

// spot identifies a folder, whatever the spelling of its path.
type spot struct {
	path string
	info fs.FileInfo // nil if it does not exist, or cannot be opened
}

// spotOf finds the folder. A link of an untrusted user that nothing is written through
// does not count: it would take that folder away from other certificates.
func spotOf(out string) spot {
	p := spot{path: localfile.Resolve(out)}
	if info, err := localfile.StatFolder(p.path); err == nil {
		p.info = info
	}
	return p
}

func (p spot) isSame(other spot) bool {
	return p.path == other.path || p.info != nil && other.info != nil && os.SameFile(p.info, other.info)
}

// setRivals finds certificates that share a folder, as earlier releases allowed. One
// has the folder: that of the files there, or else the first by name. It is the rival
// of the others, which must not write.
func setRivals(all []*Kept) {
	places := make([]spot, len(all))
	shared := map[int][]*Kept{} // by index of the first with that folder
	for i, k := range all {
		places[i] = spotOf(k.Out)
		for j := range i {
			if places[i].isSame(places[j]) {
				if shared[j] == nil {
					shared[j] = []*Kept{all[j]}
				}
				shared[j] = append(shared[j], k)
				break
			}
		}
	}
	for _, group := range shared {
		owner := ownerOf(group)
		for _, k := range group {
			if k != owner {
				k.rival, k.covered, k.repeated = owner.Name, owner.covers(k), owner.Names.Equal(k.Names)
			}
		}
	}
}

func ownerOf(group []*Kept) *Kept {
	serial := ""
	if have, err := certfile.Read(group[0].Out); err == nil {
		serial = have.Serial()
	}
	var owner *Kept
	for _, k := range group {
		installed, best := k.Serial == serial && serial != "", owner != nil && owner.Serial == serial && serial != ""
		if owner == nil || installed && !best || installed == best && k.Name < owner.Name {
			owner = k
		}
	}
	return owner
}

// Conflict returns an error if another certificate of this host has the folder. Then
// nothing is ordered for this one.
func (k *Kept) Conflict() error {
	if k.rival == "" {
		return nil
	}
	e := &FolderError{Out: k.Out, Name: k.rival, Rival: k.Name, Covered: k.covered}
	if !k.Unlisted {
		e.Source = k.Source
	}
	return e
}

// covers reports whether k has all names of other.
func (k *Kept) covers(other *Kept) bool {
	return !slices.ContainsFunc(other.Names, func(name string) bool { return !slices.Contains(k.Names, name) })
}

// NotListed returns an *UnlistedError if the entry of this certificate was removed from
// the configuration file.
func (k *Kept) NotListed() error {
	if !k.Unlisted {
		return nil
	}
	return &UnlistedError{File: k.Source, Name: k.Name}
}

// IsUnchanged reports whether Get found a good certificate and ordered none.
func (k *Kept) IsUnchanged() bool { return k.unchanged }

// Ready works like the Wanted's, and also returns an error if the folder belongs to
// another program or installation.
func (k *Kept) Ready() error {
	return errors.Join(k.Wanted.Ready(), claimError(k.Claimable(k.Out, k.claim())))
}

func claimError(err error) error {
	var owned *certfile.OwnedError
	var foreign *certfile.ForeignFilesError
	if errors.As(err, &owned) || errors.As(err, &foreign) {
		return fmt.Errorf("out: %w; use another folder", err)
	}
	return nil // Wanted.Ready reports all others
}

// claim returns what this certificate may do in its folder.
func (k *Kept) claim() certfile.Claim {
	return certfile.Claim{Owner: k.owner(), Force: k.options.Force, Copied: k.options.Copied}
}

func (k *Kept) owner() certfile.Owner {
	dir := filepath.Dir(filepath.Dir(k.path))
	return certfile.Owner{Program: "remote", Dir: localfile.Resolve(dir), ID: readHostID(dir), Name: k.Name}
}

// adopt records this certificate as the owner of its folder, if the folder has our set
// without an owner. A failure is harmless, because the next write records it, too.
func (k *Kept) adopt(ctx context.Context) {
	if certfile.HasOwner(k.Out) || k.Serial == "" {
		return
	}
	if have, err := certfile.Read(k.Out); err == nil && have.Serial() == k.Serial {
		_ = certfile.Adopt(ctx, k.Out, k.owner())
	}
}

// reserve ensures that no other certificate of this host has the folder of k, or gets
// it before release. The caller must hold the lock of k.
func (s *State) reserve(ctx context.Context, k *Kept) (release func(), err error) {
	unlock, err := s.lockRows(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	all, _ := s.rows() // a damaged file has no known folder
	if err := checkFolder(all, k); err != nil {
		return nil, err
	}
	if err := s.checkReserved(k); err != nil {
		return nil, err
	}
	path := reservationPath(k.path)
	if err := writeState(path, []byte(k.Name+"\n"+k.Out+"\n")); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	return func() { _ = os.Remove(path) }, nil
}

// checkFolder returns a *FolderError if another row has the folder of k.
func checkFolder(all []*Kept, k *Kept) error {
	for _, other := range all {
		if other.path == k.path && spotOf(other.Out).isSame(spotOf(k.Out)) {
			return other.Conflict()
		}
	}
	wanted := spotOf(k.Out)
	for _, other := range all {
		if other.path != k.path && other.rival == "" && spotOf(other.Out).isSame(wanted) {
			return &FolderError{Out: k.Out, Name: other.Name}
		}
	}
	return nil
}

// A reservation is a file beside the state file of a certificate that is being got. It
// is valid as long as a process holds the lock of that certificate.
const reservationSuffix = ".reserved"

func reservationPath(path string) string {
	return strings.TrimSuffix(path, ".json") + reservationSuffix
}

// checkReserved returns a *FolderError if a process is about to write another
// certificate to the folder of k. It removes the reservations of killed processes.
func (s *State) checkReserved(k *Kept) error {
	files, err := filepath.Glob(filepath.Join(s.Dir, certificatesName, "*"+reservationSuffix))
	if err != nil {
		return err
	}
	wanted := spotOf(k.Out)
	for _, file := range files {
		if file == reservationPath(k.path) {
			continue
		}
		data, err := localfile.Read(file)
		name, out, _ := strings.Cut(strings.TrimSuffix(string(data), "\n"), "\n")
		if err != nil || !spotOf(out).isSame(wanted) {
			continue
		}
		unlock, err := tryLock(strings.TrimSuffix(file, reservationSuffix) + ".lock")
		if err != nil {
			return &FolderError{Out: k.Out, Name: name}
		}
		_ = os.Remove(file)
		unlock()
	}
	return nil
}

// lockRows acquires the lock for decisions that concern several certificates. The
// caller may hold the lock of one certificate, but must not acquire one afterwards.
func (s *State) lockRows(ctx context.Context) (unlock func(), err error) {
	return lock(ctx, filepath.Join(s.Dir, certificatesName, rowsLockName))
}

// rowsLockName is not the name of a certificate's lock, which is hexadecimal.
const rowsLockName = "rows.lock"

// tryLock acquires a lock, or fails at once if another process or caller holds it.
func tryLock(path string) (unlock func(), err error) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel() // lock tries once
	return lock(ctx, path)
}
