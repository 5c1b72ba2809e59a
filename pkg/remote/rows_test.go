package remote

import (
	"errors"
	"log/slog"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// A stored name means one certificate, even if others have exactly that name. Otherwise
// forgetting one of two rivals would end the renewal of both.
func TestStoredNameMeansOne(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	for _, name := range []string{"a.example", "a.example-gateway", "other"} {
		w := want(t, s, clients.ModeGateway)
		w.Name, w.Out = name, filepath.Join(s.Dir, name)
		if err := s.remember(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for _, given := range []string{"a.example", "A.example", "a.example-gateway", "other"} {
		found, err := s.Lookup([]string{given}, "")
		if err != nil || len(found) != 1 {
			t.Fatalf("%s means %v (%v)", given, found, err)
		}
	}
}

// Several arguments are all names of a certificate, or else several certificates. Only
// a command that destroys nothing accepts a name that another certificate covers.
func TestSelect(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	for name, names := range map[string]cert.Names{
		"a.example": {"a.example"}, "b.example": {"b.example"}, "both": {"a.example", "b.example"},
		"lb": {"c.example", "d.example"}, "lb-2": {"c.example", "d.example"}, "my_mail": {"mail.example"},
	} {
		w := want(t, s, clients.ModeGateway)
		w.Name, w.Names, w.Out = name, names, filepath.Join(s.Dir, name)
		if err := s.remember(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	for given, want := range map[string]struct{ selected, matching string }{
		"a.example":           {"a.example", "a.example"},
		"a.example b.example": {"both", "both"},
		"b.example both":      {"b.example both", "b.example both"},
		"both lb lb-2":        {"both lb lb-2", "both lb lb-2"},
		"lb my_mail lb":       {"lb my_mail", "lb my_mail"},
		"lb lb":               {"lb", "lb"},
		"d.example c.example": {"lb lb-2", "lb lb-2"},
		"mail.example":        {"my_mail", "my_mail"},
		"c.example":           {"", "lb lb-2"},
		"a.example d.example": {"", "a.example lb lb-2"},
		"a.example x.example": {"", ""},
		"a.example -":         {"", ""},
	} {
		found, err := s.Select(strings.Fields(given))
		if got := strings.Join(storedNames(found), " "); got != want.selected || (err == nil) != (got != "") {
			t.Errorf("%s selects %q, want %q (%v)", given, got, want.selected, err)
		}
		kept, err := s.Matching(strings.Fields(given))
		var names []string
		for _, k := range kept {
			names = append(names, k.Name)
		}
		if got := strings.Join(names, " "); got != want.matching || (err == nil) != (got != "") {
			t.Errorf("%s matches %q, want %q (%v)", given, got, want.matching, err)
		}
	}
}

// A single name that is a stored name means that certificate for get, too, whatever
// others have exactly that name. All names of a certificate mean it nevertheless.
func TestFind(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	add := func(name string, mode clients.Mode, names ...string) {
		w := want(t, s, mode)
		w.Name, w.Names, w.Out = name, names, filepath.Join(s.Dir, name)
		if err := s.remember(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	add("a.example", clients.ModeAgent, "a.example")
	add("a2", clients.ModeAgent, "a.example")
	add("a3", clients.ModeGateway, "a.example")
	add("b.example", clients.ModeGateway, "b.example", "www.b.example")
	add("www.b.example", clients.ModeAgent, "b.example")
	for _, tc := range []struct {
		names string
		mode  clients.Mode
		want  string
	}{
		{"a.example", "", "a.example"},
		{"a.example", clients.ModeAgent, "a.example"},
		{"a.example", clients.ModeGateway, "a3"},
		{"b.example", "", "b.example"},
		{"b.example", clients.ModeAgent, "www.b.example"},
		{"b.example www.b.example", "", "b.example"},
		{"c.example", "", "c.example"},
	} {
		k, name, err := s.Find(Wanted{Names: strings.Fields(tc.names), Mode: tc.mode})
		if err != nil || name != tc.want || (k == nil) != (tc.want == "c.example") {
			t.Errorf("%s in mode %q: %s, want %s (%v)", tc.names, tc.mode, name, tc.want, err)
		}
	}
}

// An entry whose certificate is being forgotten is wanted again.
func TestListedWhileForgotten(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	w := want(t, s, clients.ModeAgent)
	w.Source = "remote.yaml"
	k, err := s.loadKept(w)
	if err != nil {
		t.Fatal(err)
	}
	k.Forgetting = &forgetting{}
	if err := k.save(); err != nil {
		t.Fatal(err)
	}
	d := &daemon{RunConfig: RunConfig{State: s, Logger: slog.New(slog.DiscardHandler)}}
	if err := d.reconcile(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Kept(); err != nil || all[0].Forgetting == nil {
		t.Errorf("a certificate that is not listed: %+v (%v)", all, err)
	}
	if err := d.reconcile(t.Context(), []Wanted{w}); err != nil {
		t.Fatal(err)
	}
	if all, err := s.Kept(); err != nil || all[0].Forgetting != nil {
		t.Errorf("%+v (%v)", all, err)
	}
}

// An entry means one certificate. Another one with the same names, but a name of its
// own, is not listed by it.
func TestListed(t *testing.T) { // X43
	s := newEvil(t).enrolled(t)
	for _, name := range []string{"a.example", "other"} {
		w := want(t, s, clients.ModeAgent)
		w.Name, w.Out = name, filepath.Join(s.Dir, name)
		if err := s.remember(t.Context(), w); err != nil {
			t.Fatal(err)
		}
	}
	rows, err := s.rows()
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range rows {
		_, listed := s.Listed(k, []Wanted{want(t, s, clients.ModeAgent)})
		if listed != (k.Name == "a.example") {
			t.Errorf("%s is listed: %v", k.Name, listed)
		}
	}
}

// Of two certificates of an earlier release in one folder, the one in use is never the
// one to end, and no invented name says a mode that both have.
func TestRemedyKeepsTheOneInUse(t *testing.T) { // X43
	out := t.TempDir()
	row := func(path string, names ...string) *Kept {
		return &Kept{Wanted: Wanted{Names: names, Mode: clients.ModeAgent, Out: out}, path: path}
	}
	for name, tc := range map[string]struct {
		other   *Kept
		covered bool
	}{
		"the same names": {row("2", "a.example"), true},
		"another name":   {row("2", "a.example", "b.example"), false},
	} {
		first := row("1", "a.example")
		all := []*Kept{first, tc.other}
		(&State{Dir: out}).nameRows(all)
		setRivals(all)
		var e *FolderError
		if !errors.As(tc.other.Conflict(), &e) || e.Name != "a.example" || e.Rival != "a.example-2" || e.Covered != tc.covered || first.Conflict() != nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}
