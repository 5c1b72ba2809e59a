package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// GetOptions holds the decisions of the administrator for one call of GetWith.
type GetOptions struct {
	Renew   bool // get a new key and certificate, even if the present ones are not due
	Replace bool // replace the names of the certificate with that stored name
	// Force takes the folder from another owner, and replaces files of other programs
	// there. Copied is called with the path of each copy that is kept. It may be nil.
	Force  bool
	Copied func(path string)
}

// plan returns w with its state, or with an empty state for a new certificate. It
// fills the empty fields of w that may be empty. It writes nothing.
func (s *State) plan(w Wanted, o GetOptions) (*Kept, error) {
	all, damaged := s.rows()
	k, name, err := s.find(all, w)
	if err != nil {
		return nil, err
	}
	if k == nil {
		k = &Kept{path: s.newPath(name, all)}
		_, err := readKept(k.path)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		if err != nil || s.isDamaged(w) {
			return nil, errors.Join(err, damaged)
		}
	}
	w.Name = name
	w = s.Complete(w, k)
	if err := errors.Join(w.Validate(), k.nameError(name)); err != nil {
		return nil, err
	}
	if len(k.Names) > 0 && !k.Names.Equal(w.Names) && !o.Replace {
		return nil, &NamesError{Name: name, Out: k.Out, Have: k.Names, Want: w.Names}
	}
	k.options = o
	k.change(w)
	return k, nil
}

// nameError returns an error if k cannot get that stored name. It may have it already.
func (k *Kept) nameError(name string) error {
	if len(k.Names) > 0 && k.Name == name && cert.IsStoredName(name) {
		return nil
	}
	if err := cert.CheckStoredName(name); err != nil {
		return fmt.Errorf("name: %w", err)
	}
	return nil
}

// isDamaged reports whether an unreadable file of an earlier release is the state of
// these names.
func (s *State) isDamaged(w Wanted) bool {
	for _, mode := range clients.NativeModes() {
		if w.Mode != "" && w.Mode != mode {
			continue
		}
		if _, err := readKept(s.keptPath(mode, w.Names)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return true
		}
	}
	return false
}

// Complete returns w with its empty fields as have has them, or with the defaults. have
// may be nil.
func (s *State) Complete(w Wanted, have *Kept) Wanted {
	k := cmp.Or(have, &Kept{})
	w.Mode = cmp.Or(w.Mode, k.Mode)
	if w.Mode == "" {
		w.Mode = s.DefaultMode()
	}
	w.KeyType = cmp.Or(w.KeyType, cert.EC256)
	w.Out = cmp.Or(w.Out, k.Out)
	if w.Out == "" {
		w.Out = s.DefaultOut(w.Name)
	}
	w.Source = cmp.Or(w.Source, k.Source)
	w.First = ""
	return w
}

// change gives k the wanted settings. If names or mode differ, the certificate on the
// disk becomes the former one, which stays until the new one is installed.
func (k *Kept) change(w Wanted) {
	isNew := len(k.Names) == 0
	if !isNew && filepath.Clean(k.Out) != filepath.Clean(w.Out) {
		k.ETag = "" // install it in the new folder
	}
	switch {
	case isNew:
	case !k.Names.Equal(w.Names) || k.Mode != w.Mode:
		k.replaceBy(w)
	case k.KeyType != w.KeyType:
		k.ID, k.ETag = "", "" // register again
	case k.Profile != w.Profile:
		k.ID, k.outdated = "", true // register again; the present bundle has the old profile
	}
	k.Wanted = w
}

// retryTake is the number of times that take starts again because other processes
// changed the certificate.
const retryTake = 10

// take returns the planned certificate, locked, and with its folder reserved. It
// returns an error if nothing could be written.
func (s *State) take(ctx context.Context, w Wanted, o GetOptions) (k *Kept, done func(), err error) {
	if err := s.ensureHostID(ctx); err != nil {
		return nil, nil, err
	}
	for range retryTake {
		if k, err = s.plan(w, o); err == nil {
			err = k.Ready()
		}
		if err != nil {
			return nil, nil, err
		}
		if done, err = s.takeOne(ctx, k.path, w, o, &k); !errors.Is(err, errMoved) {
			return k, done, err
		}
	}
	return nil, nil, errors.New("state-dir: other processes change this certificate all the time; stop them and try again")
}

var errMoved = errors.New("the certificate was added or forgotten in the meantime")

// takeOne locks the state file at path and plans again, because another process may
// have changed it.
func (s *State) takeOne(ctx context.Context, path string, w Wanted, o GetOptions, planned **Kept) (done func(), err error) {
	unlock, err := lock(ctx, lockPath(path))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			unlock()
		}
	}()
	k, err := s.plan(w, o)
	if err != nil {
		return nil, err
	}
	if k.path != path {
		return nil, errMoved
	}
	release, err := s.reserve(ctx, k)
	if err != nil {
		return nil, err
	}
	*planned = k
	return func() { release(); unlock() }, nil
}
