package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path/filepath"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// reconcile makes the certificates of this host match the configuration's. It may be
// called again, with another list. The list is authoritative: an entry that was edited
// replaces the names of its certificate. It logs certificates that are no longer listed,
// and keeps them. It stores all other entries if one has a fault.
func (d *daemon) reconcile(ctx context.Context, list []Wanted) error {
	all, damaged := d.State.rows()
	if damaged != nil {
		d.Logger.Error("cannot keep all certificates", "error", damaged)
	}
	if err := d.State.ensureHostID(ctx); err != nil && ctx.Err() == nil {
		d.Logger.Warn("this host has no ID yet, so the path of its state directory identifies it", "error", err)
	}
	var faults []error
	for _, k := range all {
		if err := d.State.joinTwins(ctx, k); err != nil && ctx.Err() == nil {
			d.Logger.Warn("two state files of one certificate are not joined", "name", k.Name, "names", k.Names.String(), "error", err)
		}
	}
	listed := map[string]bool{} // by path
	for _, m := range d.State.match(all, list) {
		path, err := d.store(ctx, m)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", m.want.Names, err))
		}
		listed[path] = true
	}
	for _, k := range all {
		if listed[k.path] {
			continue
		}
		if err := d.State.update(ctx, k, func(now *Kept) { now.Unlisted = now.Source != "" }); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", k.Names, err))
		}
		if k.Source != "" {
			d.Logger.Warn("certificate is still renewed", "name", k.Name, "names", k.Names.String(), "out", k.Out,
				"error", &UnlistedError{File: k.Source, Name: k.Name})
		}
	}
	return errors.Join(faults...)
}

// UnlistedError reports a certificate that is still renewed, although its entry was
// removed from the configuration file.
type UnlistedError struct{ File, Name string }

func (e *UnlistedError) Error() string {
	return "the daemon's configuration no longer lists it; its entry was in " + e.File
}

// matched is an entry of the configuration with the certificate that it means.
type matched struct {
	want Wanted // with its stored name
	path string // of the state file, which may not exist yet
}

// match finds the certificate of each entry. It is, in this order, the one of the
// entry's own name, the one with exactly its names (and its mode, if it has one, or else
// the one that has the folder; preferably with the default name), the one whose name is the entry's default, and the one from a file in the entry's folder.
// The last one is an entry whose first name was edited.
func (s *State) match(all []*Kept, list []Wanted) []matched {
	found := make([]*Kept, len(list))
	used := map[*Kept]bool{}
	for _, fits := range []func(w Wanted, k *Kept) bool{
		func(w Wanted, k *Kept) bool { return w.Name == k.Name },
		func(w Wanted, k *Kept) bool {
			return w.Name == "" && w.defaultName() == k.Name && w.Names.Equal(k.Names) && cmp.Or(w.Mode, s.DefaultMode()) == k.Mode && !k.repeated
		},
		func(w Wanted, k *Kept) bool { return w.Names.Equal(k.Names) && w.Mode == k.Mode },
		func(w Wanted, k *Kept) bool {
			return w.Names.Equal(k.Names) && w.Mode == "" && k.Mode == s.DefaultMode() && !k.repeated
		},
		func(w Wanted, k *Kept) bool { return w.Names.Equal(k.Names) && w.Mode == "" && !k.repeated },
		func(w Wanted, k *Kept) bool { return w.Name == "" && w.defaultName() == k.Name },
		func(w Wanted, k *Kept) bool {
			return w.Out != "" && k.Source != "" && k.rival == "" && spotOf(w.Out).isSame(spotOf(k.Out))
		},
	} {
		for i, w := range list {
			for _, k := range all {
				if found[i] == nil && !used[k] && fits(w, k) {
					found[i], used[k] = k, true
				}
			}
		}
	}
	return s.nameEntries(all, list, found)
}

// nameEntries gives each entry the stored name of its certificate: its own, or its
// default if no other has that.
func (s *State) nameEntries(all []*Kept, list []Wanted, found []*Kept) []matched {
	taken := map[string]bool{}
	for _, k := range all {
		taken[k.Name] = true
	}
	for _, w := range list {
		taken[w.Name] = true
	}
	matches := make([]matched, len(list))
	for i, w := range list {
		k := found[i]
		switch {
		case w.Name != "":
		case k == nil:
			w.Name = unusedName(w.defaultName(), taken)
		case taken[w.defaultName()]:
			w.Name = k.Name
		default:
			w.Name = w.defaultName()
		}
		taken[w.Name] = true
		matches[i] = matched{want: w}
		if k != nil {
			matches[i].path = k.path
			matches[i].want.Out = s.keptFolder(w, k)
			continue
		}
		matches[i].path = s.newPath(w.Name, all)
		all = append(all, &Kept{Wanted: w, path: matches[i].path})
	}
	return matches
}

// keptFolder returns the folder of an entry. If the entry has none, the certificate
// keeps a default folder, and the folder that a command gave it.
func (s *State) keptFolder(w Wanted, k *Kept) string {
	if w.Out == "" && (k.Source == "" || filepath.Dir(k.Out) == s.defaultFolder()) {
		return k.Out
	}
	return w.Out
}

// store writes an entry to its state file and returns its path. It preserves the state
// that is stored already.
func (d *daemon) store(ctx context.Context, m matched) (path string, err error) {
	return m.path, d.State.edit(ctx, m.path, m.want.Name, func(k *Kept) error {
		w := d.State.Complete(m.want, k)
		if err := errors.Join(w.Validate(), k.nameError(w.Name)); err != nil {
			return err
		}
		d.warnOfMove(k, w)
		k.change(w)
		k.Unlisted, k.Forgetting = false, nil // it is wanted again
		return nil
	})
}

// warnOfMove logs that the files in the folder of k are no longer updated, because w has
// another folder. A service may use them still.
func (d *daemon) warnOfMove(k *Kept, w Wanted) {
	if k.Out == "" || filepath.Clean(k.Out) == filepath.Clean(w.Out) || !certfile.HasSet(k.Out) || spotOf(k.Out).isSame(spotOf(w.Out)) {
		return
	}
	d.Logger.Warn("files are no longer updated; make their services use the new folder",
		"name", w.Name, "names", w.Names.String(), "folder", k.Out, "out", w.Out)
}

// update changes a listed certificate, unless it was forgotten in the meantime. It also
// stores the name of one that an earlier release stored.
func (s *State) update(ctx context.Context, listed *Kept, change func(*Kept)) error {
	return s.edit(ctx, listed.path, listed.Name, func(k *Kept) error {
		if len(k.Names) == 0 {
			return errForgotten
		}
		change(k)
		return nil
	})
}

var errForgotten = errors.New("forgotten in the meantime")

// edit changes a state file under its lock. change gets an empty state if there is no
// file. The result is written only if it differs.
func (s *State) edit(ctx context.Context, path, name string, change func(*Kept) error) error {
	unlock, err := lock(ctx, lockPath(path))
	if err != nil {
		return err
	}
	defer unlock()
	k, err := readKept(path)
	if errors.Is(err, fs.ErrNotExist) {
		k, err = &Kept{path: path}, nil
	}
	if err != nil {
		return err
	}
	before := k.encoded()
	if k.Name == "" {
		k.Name = name
	}
	switch err := change(k); {
	case errors.Is(err, errForgotten):
		return nil
	case err != nil:
		return err
	}
	if k.encoded() == before {
		return nil
	}
	return k.save()
}

// encoded returns the content of the state file.
func (k *Kept) encoded() string {
	data, err := k.encode()
	if err != nil {
		return "" // save reports it
	}
	return string(data)
}

// Listed returns the index of the entry that means the certificate, and whether there is
// one.
func (s *State) Listed(k *Kept, list []Wanted) (int, bool) {
	all, _ := s.rows() // a damaged file matches no entry
	i := slices.IndexFunc(s.match(all, list), func(m matched) bool { return m.path == k.path })
	return i, i >= 0
}

// Pending returns the entries that mean no certificate yet, with their stored names and
// defaults. The result has the indices of list, and empty elements for the others.
func (s *State) Pending(list []Wanted) []Wanted {
	all, _ := s.rows() // a damaged file matches no entry
	pending := make([]Wanted, len(list))
	for i, m := range s.match(all, list) {
		if !slices.ContainsFunc(all, func(k *Kept) bool { return k.path == m.path }) {
			pending[i] = s.Complete(m.want, nil)
		}
	}
	return pending
}

// warnOfRival reports whether another certificate has the folder of k. It logs that once.
// Nothing is ordered for k then.
func (d *daemon) warnOfRival(k Kept) bool {
	key := k.path + "\nrival"
	if k.rival == "" {
		delete(d.warned, key)
		return false
	}
	if d.warned[key] != k.rival {
		d.warned[key] = k.rival
		d.Logger.Error("cannot keep the certificate", "name", k.Name, "names", k.Names.String(), "error", k.Conflict())
	}
	return true
}

// finishForgetting completes a Forget that a crash or a lost answer interrupted.
func (d *daemon) finishForgetting(ctx context.Context, k *Kept, log *slog.Logger) error {
	at, err := d.getter.finishForgetting(ctx, k)
	if err != nil {
		log.Warn("certificate not forgotten yet", "name", k.Name, "error", err)
		return nil
	}
	log.Info("certificate forgotten", "name", k.Name, "proxy", at)
	return k.remove(ctx)
}

// endFormer withdraws replaced certificates, or renews the former one as long as it is
// on the disk. A failure does not delay the new certificate.
func (d *daemon) endFormer(ctx context.Context, k *Kept, log *slog.Logger) {
	if k.Former != nil {
		if err := d.refresh(ctx, k.formerKept(), false); err != nil && ctx.Err() == nil {
			log.Warn("the former certificate is not fresh", "names", k.Former.Names.String(), "error", err)
		}
		return
	}
	if err := d.getter.withdraw(ctx, k); err != nil && ctx.Err() == nil {
		log.Warn("the proxy still manages the replaced certificate", "error", err)
	}
	for _, err := range k.shared {
		log.Warn("the proxy still manages the replaced certificate", "error", err)
	}
}
