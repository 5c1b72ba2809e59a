package remote

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// NamesError reports that the certificate of a stored name has other names than the
// wanted ones.
type NamesError struct {
	Name string // stored name
	Out  string
	Have cert.Names
	Want cert.Names
}

func (e *NamesError) Error() string {
	return fmt.Sprintf("names: the certificate %q in %s covers %s, not %s", e.Name, e.Out, e.Have, e.Want)
}

// AmbiguousError reports that several certificates have the wanted names.
type AmbiguousError struct{ Names []string } // stored names

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("names: the certificates %s have these names; choose one by its stored name", strings.Join(e.Names, " and "))
}

// Kept lists the certificates of this host, sorted by their identifiers. If some files
// cannot be read, it returns an error that names them together with the other
// certificates.
func (s *State) Kept() ([]Kept, error) {
	rows, err := s.rows()
	all := copies(rows)
	slices.SortStableFunc(all, func(a, b Kept) int { return strings.Compare(a.Names.Key(), b.Names.Key()) })
	return all, err
}

// rows reads the state files, sorted by stored name.
func (s *State) rows() ([]*Kept, error) {
	files, err := filepath.Glob(filepath.Join(s.Dir, certificatesName, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []*Kept
	var faults []error
	for _, path := range files {
		switch k, err := readKept(path); {
		case err == nil:
			all = append(all, k)
		case !errors.Is(err, fs.ErrNotExist): // else it was forgotten in the meantime
			faults = append(faults, err)
		}
	}
	all = withoutTwins(all)
	s.nameRows(all)
	slices.SortFunc(all, func(a, b *Kept) int { return strings.Compare(a.Name, b.Name) })
	setRivals(all)
	return all, errors.Join(faults...)
}

// nameRows gives a name to the certificates that earlier releases stored without one.
// The names depend only on the files, so that each process finds the same ones.
func (s *State) nameRows(all []*Kept) {
	taken := map[string]bool{}
	var unnamed []*Kept
	for _, k := range all {
		if k.Name == "" || taken[k.Name] {
			unnamed = append(unnamed, k)
			continue
		}
		taken[k.Name] = true
	}
	slices.SortFunc(unnamed, func(a, b *Kept) int {
		return cmp.Or(strings.Compare(a.Names.Key(), b.Names.Key()), strings.Compare(string(a.Mode), string(b.Mode)), strings.Compare(a.path, b.path))
	})
	for _, k := range unnamed {
		k.Name = unusedName(s.oldName(k), taken)
		taken[k.Name] = true
	}
}

// oldName returns the name of a certificate after its default folder or, in another
// folder, after its first identifier.
func (s *State) oldName(k *Kept) string {
	if dir, base := filepath.Split(k.Out); filepath.Clean(dir) == s.defaultFolder() {
		if rest, ok := strings.CutPrefix(base, "_wildcard."); ok {
			base = "*." + rest
		}
		if cert.CheckStoredName(base) == nil {
			return base
		}
	}
	return cert.StoredName(k.Names[0])
}

// unusedName returns name, or name with a number if it is taken. A word there, such as the
// mode, would become untrue when the certificate changes.
func unusedName(name string, taken map[string]bool) string {
	const longest, suffix = 253, 12 // bytes
	if !taken[name] {
		return name
	}
	name = name[:min(len(name), longest-suffix)]
	for n := 2; ; n++ {
		if numbered := name + "-" + strconv.Itoa(n); !taken[numbered] {
			return numbered
		}
	}
}

// newPath returns the path of the state file of a new certificate.
func (s *State) newPath(name string, all []*Kept) string {
	for n := 0; ; n++ {
		sum := sha256.Sum256([]byte("name\n" + name + "\n" + strconv.Itoa(n)))
		path := filepath.Join(s.Dir, certificatesName, hex.EncodeToString(sum[:12])+".json")
		if !slices.ContainsFunc(all, func(k *Kept) bool { return k.path == path || slices.Contains(k.twins, path) }) { // a renamed one may have it
			return path
		}
	}
}

func byName(all []*Kept, name string) *Kept {
	for _, k := range all {
		if k.Name == name {
			return k
		}
	}
	return nil
}

// Find returns the certificate that w means and its stored name. It is, in this order,
// the one of w.Name, the one whose stored name is the only name of w, the one with
// exactly these names (and the mode, if w has one), or the one whose stored name is the
// default. If it does not exist, Find returns nil and the name of a new one. Damaged
// state files are ignored.
func (s *State) Find(w Wanted) (have *Kept, name string, err error) {
	all, _ := s.rows()
	return s.find(all, w)
}

func (s *State) find(all []*Kept, w Wanted) (have *Kept, name string, err error) {
	if w.Name != "" {
		return byName(all, w.Name), w.Name, nil
	}
	name = w.defaultName()
	if k := byName(all, name); k != nil && len(w.Names) == 1 && (w.Mode == "" || w.Mode == k.Mode) {
		return k, name, nil
	}
	exact := withNames(all, w.Names, w.Mode)
	if len(exact) > 1 && w.Mode == "" {
		if usual := withNames(exact, w.Names, s.DefaultMode()); len(usual) > 0 {
			exact = usual
		}
	}
	switch len(exact) {
	case 0:
		return byName(all, name), name, nil
	case 1:
		return exact[0], exact[0].Name, nil
	}
	return nil, "", ambiguous(exact)
}

// withNames returns the certificates with exactly these names and, unless it is empty,
// that mode.
func withNames(all []*Kept, names cert.Names, mode clients.Mode) []*Kept {
	var found []*Kept
	for _, k := range all {
		if k.Names.Equal(names) && (mode == "" || mode == k.Mode) {
			found = append(found, k)
		}
	}
	return found
}

func ambiguous(found []*Kept) error { return &AmbiguousError{storedNames(found)} }

// Lookup returns the certificate of a stored name, if given is one, or else all with
// exactly the given names. If mode is not empty, it returns those of that mode. It
// returns fs.ErrNotExist if this host has no such certificate.
func (s *State) Lookup(given []string, mode clients.Mode) ([]*Kept, error) {
	all, damaged := s.rows()
	found, err := lookup(all, given, mode)
	if err == nil && len(found) == 0 {
		err = errors.Join(fs.ErrNotExist, damaged)
	}
	return found, err
}

func lookup(all []*Kept, given []string, mode clients.Mode) ([]*Kept, error) {
	names, err := cert.ParseNames(given...)
	k := (*Kept)(nil)
	if len(given) == 1 {
		k = byName(all, given[0])
	}
	if k == nil && len(names) == 1 {
		k = byName(all, cert.StoredName(names[0]))
	}
	if k != nil && (mode == "" || mode == k.Mode) {
		return []*Kept{k}, nil
	}
	switch {
	case err == nil:
		return withNames(all, names, mode), nil
	case len(given) == 1 && cert.IsStoredName(given[0]): // an unknown one
		return nil, nil
	}
	return nil, fmt.Errorf("names: %w", err)
}

// Select returns the certificates that several arguments mean. Together they are a
// stored name or all names of a certificate, as for Lookup. Otherwise each of them is
// one. Select returns an *UnknownNameError for the first unknown one.
func (s *State) Select(given []string) ([]*Kept, error) {
	all, damaged := s.rows()
	found, err := selectFrom(all, given, nil)
	if errors.As(err, new(*UnknownNameError)) {
		err = errors.Join(damaged, err)
	}
	return found, err
}

// selectFrom works like Select. If a name is not a certificate of its own, it uses the
// result of covering, which may be nil.
func selectFrom(all []*Kept, given []string, covering func(name string) []*Kept) ([]*Kept, error) {
	if together, err := lookup(all, given, ""); err == nil && len(together) > 0 {
		return together, nil
	}
	var found []*Kept
	for _, name := range given {
		these, err := lookup(all, []string{name}, "")
		if err != nil {
			return nil, err
		}
		if len(these) == 0 && covering != nil {
			these = covering(name)
		}
		if len(these) == 0 {
			return nil, &UnknownNameError{Name: name, Covering: storedNames(coveringRows(all, name))}
		}
		for _, k := range these {
			if !slices.Contains(found, k) {
				found = append(found, k)
			}
		}
	}
	return found, nil
}

// coveringRows returns the certificates that have the name, and perhaps others.
func coveringRows(all []*Kept, name string) []*Kept {
	name, err := cert.ParseName(name)
	var found []*Kept
	for _, k := range all {
		if err == nil && slices.Contains(k.Names, name) {
			found = append(found, k)
		}
	}
	return found
}

func storedNames(rows []*Kept) []string {
	var names []string
	for _, k := range rows {
		names = append(names, k.Name)
	}
	return names
}

// UnknownNameError means that no certificate of this host has the stored name Name, or
// exactly that name.
type UnknownNameError struct {
	Name     string
	Covering []string // stored names of certificates that have the name and others
}

func (e *UnknownNameError) Error() string {
	if len(e.Covering) == 0 {
		return "this host has no certificate for " + e.Name
	}
	return fmt.Sprintf("this host has no certificate for %s alone; %s covers it, too", e.Name, strings.Join(e.Covering, " and "))
}

// readNamed reads the state file of a listed certificate. Files of earlier releases
// have no stored name.
func readNamed(listed *Kept) (*Kept, error) {
	k, err := readKept(listed.path)
	if err == nil {
		k.Name, k.twins = cmp.Or(k.Name, listed.Name), listed.twins
	}
	return k, err
}
