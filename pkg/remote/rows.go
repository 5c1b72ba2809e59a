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
		k.Name = unusedName(s.oldName(k), k.Mode, taken)
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

// unusedName returns name, or name with a suffix if it is taken.
func unusedName(name string, mode clients.Mode, taken map[string]bool) string {
	const longest, suffix = 253, 12 // bytes
	if !taken[name] {
		return name
	}
	name = name[:min(len(name), longest-suffix)]
	if withMode := name + "-" + string(mode); mode != "" && !taken[withMode] {
		return withMode
	}
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
		if !slices.ContainsFunc(all, func(k *Kept) bool { return k.path == path }) { // a renamed one may have it
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
// the one of w.Name, the one with exactly these names (and the mode, if w has one), or
// the one whose name is the default. If it does not exist, Find returns nil and the
// name of a new one. Damaged state files are ignored.
func (s *State) Find(w Wanted) (have *Kept, name string, err error) {
	all, _ := s.rows()
	return s.find(all, w)
}

func (s *State) find(all []*Kept, w Wanted) (have *Kept, name string, err error) {
	if w.Name != "" {
		return byName(all, w.Name), w.Name, nil
	}
	exact := withNames(all, w.Names, w.Mode)
	if len(exact) > 1 && w.Mode == "" {
		if usual := withNames(exact, w.Names, s.DefaultMode()); len(usual) > 0 {
			exact = usual
		}
	}
	switch len(exact) {
	case 0:
		name = w.defaultName()
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

func ambiguous(found []*Kept) error {
	e := &AmbiguousError{}
	for _, k := range found {
		e.Names = append(e.Names, k.Name)
	}
	return e
}

// Lookup returns the certificate of a stored name, if given is one, or else all with
// exactly the given names. If mode is not empty, it returns those of that mode. It
// returns fs.ErrNotExist if this host has no such certificate.
func (s *State) Lookup(given []string, mode clients.Mode) ([]*Kept, error) {
	all, damaged := s.rows()
	if len(given) == 1 {
		name := given[0]
		if canonical, err := cert.ParseName(name); err == nil && byName(all, name) == nil {
			name = cert.StoredName(canonical)
		}
		if k := byName(all, name); k != nil && (mode == "" || mode == k.Mode) {
			return []*Kept{k}, nil
		}
	}
	names, err := cert.ParseNames(given...)
	if err != nil {
		return nil, fmt.Errorf("names: %w", err)
	}
	found := withNames(all, names, mode)
	if len(found) == 0 {
		return nil, errors.Join(fs.ErrNotExist, damaged)
	}
	return found, nil
}

// readNamed reads the state file of a listed certificate. Files of earlier releases
// have no stored name.
func readNamed(listed *Kept) (*Kept, error) {
	k, err := readKept(listed.path)
	if err == nil && k.Name == "" {
		k.Name = listed.Name
	}
	return k, err
}
