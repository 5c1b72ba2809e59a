package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// A twin is a second state file of a certificate: of the same identifiers, mode and
// folder. An earlier release, which finds no file with a stored name, adds one for each
// entry of its configuration. Both mean one certificate.

// withoutTwins returns one certificate instead of each group of twins: the one whose
// certificate expires last, because its state describes the files.
func withoutTwins(all []*Kept) []*Kept {
	var found []*Kept
	for _, k := range all {
		i := slices.IndexFunc(found, k.isTwin)
		switch {
		case i < 0:
			found = append(found, k)
		case found[i].isBehind(k):
			k.twins = append(found[i].twins, found[i].path)
			k.complete(found[i])
			found[i] = k
		default:
			found[i].twins = append(found[i].twins, k.path)
			found[i].complete(k)
		}
	}
	return found
}

func (k *Kept) isTwin(other *Kept) bool {
	return k.Mode == other.Mode && k.Names.Equal(other.Names) && spotOf(k.Out).isSame(spotOf(other.Out))
}

// isBehind reports whether twin has the newer state. With equal ones, a file with a
// stored name stays, and then the first one.
func (k *Kept) isBehind(twin *Kept) bool {
	if at := k.NotAfter.Compare(twin.NotAfter); at != 0 {
		return at < 0
	}
	return k.Name == "" && twin.Name != ""
}

// complete gives k the name of its twin if it has none. A revocation that either knows
// counts.
func (k *Kept) complete(twin *Kept) {
	k.Name, k.Source, k.Revoked = cmp.Or(k.Name, twin.Name), cmp.Or(k.Source, twin.Source), cmp.Or(k.Revoked, twin.Revoked)
}

// adoptTwin adds the state of a twin that must not be lost.
func (k *Kept) adoptTwin(twin *Kept) {
	k.complete(twin)
	k.HookDue = k.HookDue || twin.HookDue
	k.Revoking = cmp.Or(k.Revoking, twin.Revoking)
	ids := twin.Withdraw
	if twin.Former != nil {
		ids = append(slices.Clone(ids), twin.Former.ID)
	}
	for _, id := range ids {
		if !slices.Contains(k.managedIDs(), id) {
			k.withdrawLater(id)
		}
	}
}

// joinTwins stores the state of the twins of k with k, and removes their files. A crash
// in between only repeats this.
func (s *State) joinTwins(ctx context.Context, k *Kept) error {
	if len(k.twins) == 0 {
		return nil
	}
	unlock, err := k.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	now, err := readKept(k.path)
	if err != nil {
		return err
	}
	return eachTwin(k.twins, func(twin *Kept) error {
		if !now.isTwin(twin) {
			return nil // it was changed in the meantime
		}
		now.adoptTwin(twin)
		if err := now.save(); err != nil {
			return err
		}
		return twin.removeFile()
	})
}

// removeFiles removes the state of a certificate: first the files of its twins, so that
// the caller can repeat this. The caller must hold the lock of k.
func (k *Kept) removeFiles() error {
	if err := eachTwin(k.twins, (*Kept).removeFile); err != nil {
		return err
	}
	return k.removeFile()
}

// eachTwin calls f for each twin, under its lock. It does not wait for a process that
// works on a twin, because the caller holds another lock.
func eachTwin(paths []string, f func(twin *Kept) error) error {
	for _, path := range paths {
		unlock, err := tryLock(lockPath(path))
		if err != nil {
			return fmt.Errorf("state-dir: another process works on %s; try again when it has ended", path)
		}
		twin, err := readKept(path)
		if err == nil {
			err = f(twin)
		}
		unlock()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

func (k *Kept) removeFile() error {
	if err := os.Remove(k.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}
