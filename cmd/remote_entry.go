package cmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// entry is the entry of a configuration file that means a certificate.
type entry struct {
	file   string
	index  int // in the file
	wanted remote.Wanted
}

func (e *entry) String() string { return fmt.Sprintf("%s[%d]", config.CertificatesKey, e.index) }

// readEntries returns the entries of a file without those that repeat an earlier one, and
// the state directory that the file is for.
func readEntries(file string) (entries []entry, stateDir string, err error) {
	f, err := config.Load(new(pflag.FlagSet), os.Getenv, file, bindRun)
	if err != nil {
		return nil, "", usageError{err}
	}
	unique, repeated := f.Certificates.Unique()
	list, err := configured(file, unique)
	if err != nil {
		return nil, "", err
	}
	index := 0
	for _, w := range list {
		for slices.ContainsFunc(repeated, func(r config.Repetition) bool { return r.Index == index }) {
			index++
		}
		entries = append(entries, entry{file, index, w})
		index++
	}
	return entries, f.stateDir, nil
}

func wantedOf(entries []entry) []remote.Wanted {
	list := make([]remote.Wanted, len(entries))
	for i, e := range entries {
		list[i] = e.wanted
	}
	return list
}

// findEntry returns the entry of the certificate in the file that listed it, or in the
// daemon's file, or nil.
func findEntry(s *remote.State, k *remote.Kept, file string) (*entry, error) {
	files := []string{k.Source, file}
	for i, file := range files {
		if file == "" || i > 0 && file == files[0] {
			continue
		}
		entries, _, err := readEntries(file)
		if errors.Is(err, fs.ErrNotExist) && i == 0 { // the file that listed it was removed
			continue
		}
		if err != nil {
			return nil, err
		}
		if n, listed := s.Listed(k, wantedOf(entries)); listed {
			return &entries[n], nil
		}
	}
	return nil, nil
}

// checkNotListed returns an error if a configuration file of the daemon lists the
// certificate, because the daemon would add it again.
func checkNotListed(s *remote.State, k *remote.Kept, file string) error {
	e, err := findEntry(s, k, file)
	if err != nil || e == nil {
		return err
	}
	return fmt.Errorf("%s lists %s as %s, so the daemon would add it again; remove that entry first", e.file, k.Name, e)
}

// pendingEntries returns the entries of the daemon's file that the daemon has not seen
// yet, with their defaults. Unless the flag config or its variable names the file, it must
// be for this state directory.
func (f *remoteFlags) pendingEntries(s *remote.State) ([]entry, error) {
	file, isNamed := remoteConfigFile(f.config), f.config != "" || os.Getenv("ACMEPROXY_CONFIG") != ""
	if file == "" {
		return nil, nil
	}
	entries, stateDir, err := readEntries(file)
	if !isNamed && (err != nil || filepath.Clean(stateDir) != filepath.Clean(s.Dir)) {
		return nil, nil //nolint:nilerr // it may be for another daemon
	}
	if err != nil {
		return nil, err
	}
	var pending []entry
	for n, w := range s.Pending(wantedOf(entries)) {
		if len(w.Names) > 0 {
			pending = append(pending, entry{file, entries[n].index, w})
		}
	}
	return pending, nil
}

// pendingEntry returns the entry that the daemon has not seen yet and that a request
// without a certificate means, or nil. name is the stored name that it would get.
func (f *remoteFlags) pendingEntry(s *remote.State, w remote.Wanted, name string) (*entry, error) {
	pending, err := f.pendingEntries(s)
	for _, e := range pending {
		if e.wanted.Name == name || w.Name == "" && e.wanted.Names.Equal(w.Names) && (w.Mode == "" || w.Mode == e.wanted.Mode) {
			return &e, nil
		}
	}
	return nil, err
}

// pendingProblem says why there is no certificate of the entry yet.
func (e *entry) pendingProblem() string {
	return fmt.Sprintf("%s lists it as %s, but the daemon has not read that yet; run acmeproxy remote get %s, or systemctl reload-or-restart acmeproxy-remote",
		e.file, e, strings.Join(e.wanted.Names, " "))
}

// asListed returns w with the options that were not given now set to those of an entry
// that the daemon has not seen yet. It refuses others, because the daemon would undo them.
func (e *entry) asListed(c *cobra.Command, s *remote.State, w remote.Wanted) (remote.Wanted, error) {
	listed := &remote.Kept{Wanted: e.wanted}
	w = asBefore(c, listed, w)
	w.Name, w.Source = e.wanted.Name, e.wanted.Source
	w = s.Complete(w, listed)
	if err := w.Validate(); err != nil {
		return w, usageError{err}
	}
	if !isSame(w, e.wanted) {
		return w, e.refuseChange()
	}
	return w, nil
}

func (e *entry) refuseChange() error {
	return usage("%s lists %s as %s, so the daemon would undo this change; change that entry, then run systemctl reload acmeproxy-remote",
		e.file, e.wanted.Name, e)
}

// checkEntry refuses a change of a certificate that a configuration file of the daemon
// lists, because the daemon would undo it. What the entry says already is no change.
func checkEntry(s *remote.State, have *remote.Kept, w remote.Wanted, file string) error {
	if isSame(w, have.Wanted) {
		return nil
	}
	e, err := findEntry(s, have, file)
	if err != nil || e == nil {
		return err
	}
	listed := e.wanted
	listed.Name = w.Name
	if isSame(w, s.Complete(listed, have)) {
		return nil
	}
	e.wanted.Name = have.Name
	return e.refuseChange()
}
