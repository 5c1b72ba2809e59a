package remote

import (
	"log/slog"
	"path/filepath"
	"testing"

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
