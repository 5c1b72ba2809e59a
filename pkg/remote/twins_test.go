package remote

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// twins stores a certificate named web1 twice: as an entry of a configuration, and
// without a name, as an earlier release stores that entry after a return to it.
func twins(t *testing.T, s *State, oldExpires, newExpires time.Time) (w Wanted, named, unnamed *Kept) {
	t.Helper()
	w = want(t, s, clients.ModeAgent)
	w.Name, w.Source = "web1", "/etc/remote.yaml"
	named, err := s.loadKept(w)
	if err != nil {
		t.Fatal(err)
	}
	named.ID, named.NotAfter, named.Withdraw = "id", newExpires, []string{"former"}
	unnamed = &Kept{Wanted: want(t, s, clients.ModeAgent), ID: "id", NotAfter: oldExpires, path: s.keptPath(w.Mode, w.Names)}
	for _, k := range []*Kept{named, unnamed} {
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
	}
	return w, named, unnamed
}

// A second state file of one certificate, which an earlier release added, is joined with
// the first one. What describes the files stays.
func TestTwins(t *testing.T) { // X43
	day := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for name, tc := range map[string]struct {
		old, new time.Time
		named    bool // the file with the name stays
	}{
		"the earlier release renewed it": {day.Add(time.Hour), day, false},
		"it did not":                     {day, day, true},
		"it obtained nothing":            {time.Time{}, day, true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newEvil(t).enrolled(t)
			w, named, unnamed := twins(t, s, tc.old, tc.new)
			stays, goes := named.path, unnamed.path
			if !tc.named {
				stays, goes = goes, stays
			}
			// commands find one certificate, also before the daemon has started
			for _, given := range []string{"web1", "a.example"} {
				found, err := s.Lookup([]string{given}, "")
				if err != nil || len(found) != 1 || found[0].path != stays || found[0].Name != "web1" || found[0].Conflict() != nil {
					t.Fatalf("%s means %+v (%v)", given, found, err)
				}
			}
			d := &daemon{RunConfig: RunConfig{State: s, Logger: slog.New(slog.DiscardHandler)}}
			for range 2 {
				if err := d.reconcile(t.Context(), []Wanted{w}); err != nil {
					t.Fatal(err)
				}
				k, err := readKept(stays)
				if err != nil || k.Name != "web1" || k.Source != w.Source || k.ID != "id" || len(k.Withdraw) != 1 || k.Unlisted {
					t.Errorf("%+v (%v)", k, err)
				}
				if _, err := os.Stat(goes); !os.IsNotExist(err) {
					t.Errorf("%s is still there (%v)", filepath.Base(goes), err)
				}
			}
		})
	}
}

// A process that works on the second file keeps it until the next start. A certificate
// is forgotten with both files.
func TestTwinInUse(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	w, named, unnamed := twins(t, s, time.Time{}, time.Now())
	unlock, err := unnamed.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	d := &daemon{RunConfig: RunConfig{State: s, Logger: slog.New(slog.DiscardHandler)}}
	if err := d.reconcile(t.Context(), []Wanted{w}); err != nil {
		t.Fatal(err)
	}
	found, err := s.Lookup([]string{"web1"}, "")
	if err != nil || len(found) != 1 || found[0].path != named.path {
		t.Fatalf("%+v (%v)", found, err)
	}
	if _, err := s.Forget(t.Context(), found[0], ForgetOptions{Local: true}); err == nil {
		t.Error("forgotten, although a process would store it again")
	}
	unlock()
	if _, err := s.Forget(t.Context(), found[0], ForgetOptions{Local: true}); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Kept(); err != nil || len(all) != 0 {
		t.Errorf("%+v (%v)", all, err)
	}
	for _, k := range []*Kept{named, unnamed} {
		if _, err := readKept(k.path); !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	}
}

// An entry without a mode means the certificate that has the folder, so that the other
// one can be forgotten.
func TestRepeatedRivalIsNotListed(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	w := want(t, s, clients.ModeGateway)
	for i, name := range []string{"a", "b"} {
		k := &Kept{Wanted: w, path: s.newPath(name, nil)}
		k.Name = name
		if i == 1 {
			k.Mode = clients.ModeAgent // the default
		}
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.rows()
	if err != nil || len(all) != 2 || all[1].rival != "a" {
		t.Fatalf("%+v (%v)", all, err)
	}
	entry := []Wanted{{Names: w.Names, Source: "/etc/remote.yaml"}}
	for i, listed := range []bool{true, false} {
		if _, got := s.Listed(all[i], entry); got != listed {
			t.Errorf("%s is listed: %v", all[i].Name, got)
		}
	}
}

// Of two certificates with the names of an entry, one in another folder, it means the one
// with its default name. The other one can be forgotten.
func TestEntryPrefersDefaultName(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	w := want(t, s, clients.ModeAgent)
	w.Names = cert.Names{"api.example", "www.example"}
	for _, name := range w.Names { // the first one is of an earlier release
		k := &Kept{Wanted: w, path: s.newPath(name, nil)}
		k.Name, k.Out = name, s.DefaultOut(name)
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
	}
	all, err := s.rows()
	if err != nil || len(all) != 2 {
		t.Fatalf("%+v (%v)", all, err)
	}
	entry := []Wanted{{Names: w.Names, First: "www.example", Source: "/etc/remote.yaml"}}
	for i, listed := range []bool{false, true} {
		if _, got := s.Listed(all[i], entry); got != listed {
			t.Errorf("%s is listed: %v", all[i].Name, got)
		}
	}
}
