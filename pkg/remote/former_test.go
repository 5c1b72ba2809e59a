package remote

import (
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// deletions records the IDs that the proxy is asked to delete.
type deletions struct {
	mu  sync.Mutex
	ids []string
}

func (d *deletions) answer(status int) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		d.mu.Lock()
		d.ids = append(d.ids, r.PathValue("id"))
		d.mu.Unlock()
		jsonAnswer(status, api.Problem{Status: status, Type: api.ProblemShared})(w, r)
	}
}

func (d *deletions) list() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.ids)
}

// While the new names have no certificate, the former one stays on the disk and is
// renewed. It is withdrawn only after the new one is installed.
func TestFormerCertificate(t *testing.T) { // X43
	e := newEvil(t)
	s := e.enrolled(t)
	w := want(t, s, clients.ModeAgent)
	first := issue{notBefore: -time.Hour}.bundle(t)
	e.serves(`"1"`, sealed(t, s, first))
	if _, err := getter(t, s).Get(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	var gone deletions
	second := issue{notBefore: -time.Minute}.bundle(t)
	formerBundle := sealed(t, s, second)
	answer := func(deleted int, newBundle http.HandlerFunc) {
		e.reset()
		e.on("DELETE "+api.PathCertificates+"/{id}", gone.answer(deleted))
		e.on("POST "+api.PathCertificates, jsonAnswer(202, api.Certificate{ID: "new"}))
		e.on("GET "+api.PathCertificates+"/new", jsonAnswer(200, api.Certificate{ID: "new"}))
		e.on("GET "+api.PathCertificates+"/new/bundle", newBundle)
		e.on("GET "+api.PathCertificates+"/id/bundle", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", `"2"`)
			_, _ = w.Write(formerBundle)
		})
	}
	answer(503, jsonAnswer(404, api.Problem{Status: 404}))

	edited := w
	edited.Name, edited.Names = "a.example", cert.Names{"a.example", "b.example"}
	d := &daemon{timing: defaultTiming(), getter: getter(t, s), RunConfig: RunConfig{State: s, Poll: time.Minute, Logger: slog.New(slog.DiscardHandler)}}
	for range 2 { // the second time changes nothing
		if err := d.reconcile(t.Context(), []Wanted{edited}); err != nil {
			t.Fatal(err)
		}
	}
	turn := func() Kept {
		t.Helper()
		all, err := s.Kept()
		if err != nil || len(all) != 1 {
			t.Fatal(all, err)
		}
		d.turn(t.Context(), all[0], false)
		all, err = s.Kept()
		if err != nil {
			t.Fatal(err)
		}
		return all[0]
	}
	k := turn()
	installedIs(t, s, second, first.Serial(), second.Serial())
	if k.Former == nil || k.Former.ID != "id" || k.ID != "new" || k.Serial != second.Serial() || len(gone.list()) != 0 {
		t.Fatalf("%+v; deleted %q", k, gone.list())
	}

	// The new one arrives. The proxy is asked until it has withdrawn the former one.
	third := issue{names: edited.Names}.bundle(t)
	ciphertext := sealed(t, s, third)
	answer(503, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("ETag", `"3"`)
		_, _ = w.Write(ciphertext)
	})
	if k = turn(); k.Former != nil || !slices.Equal(k.Withdraw, []string{"id"}) || k.Serial != third.Serial() {
		t.Fatalf("%+v", k)
	}
	if _, err := os.Stat(filepath.Join(k.Out, "cert.pem")); err != nil || k.Out != w.Out {
		t.Errorf("the folder is %s (%v)", k.Out, err)
	}
	answer(404, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotModified) })
	if k = turn(); len(k.Withdraw) != 0 || !slices.Equal(slices.Compact(gone.list()), []string{"id"}) {
		t.Errorf("%q is left, %q was deleted", k.Withdraw, gone.list())
	}
}

// Names that are changed back before their certificate exists cost nothing.
func TestNamesChangedBack(t *testing.T) { // X43
	k := &Kept{ID: "1", ETag: "e", Serial: "01", Wanted: Wanted{Names: cert.Names{"a.example"}, Mode: clients.ModeAgent, KeyType: cert.EC256}}
	other, back := k.Wanted, k.Wanted
	other.Names = cert.Names{"a.example", "b.example"}
	k.change(other)
	k.ID = "2"
	third := other
	third.Names = cert.Names{"c.example"}
	k.change(third)
	if k.Former.ID != "1" || !slices.Equal(k.Withdraw, []string{"2"}) || k.ID != "" {
		t.Errorf("%+v", k)
	}
	k.change(back)
	if k.Former != nil || k.ID != "1" || k.ETag != "e" {
		t.Errorf("%+v", k)
	}
}

// A certificate that another one of this host uses is not withdrawn.
func TestSharedIDStays(t *testing.T) { // X43
	e := newEvil(t)
	s := e.enrolled(t)
	var gone deletions
	e.on("DELETE "+api.PathCertificates+"/{id}", gone.answer(404))
	for _, name := range []string{"a", "b"} {
		w := want(t, s, clients.ModeAgent)
		w.Name, w.Out = name, filepath.Join(s.Dir, name)
		k, err := s.loadKept(w)
		if err != nil {
			t.Fatal(err)
		}
		k.ID = "same"
		if name == "b" {
			k.ID, k.Withdraw = "other", []string{"same", "own"}
		}
		if err := k.save(); err != nil {
			t.Fatal(err)
		}
		if err := getter(t, s).withdraw(t.Context(), k); err != nil || len(k.Withdraw) != 0 {
			t.Error(k.Withdraw, err)
		}
	}
	if got := gone.list(); !slices.Equal(got, []string{"own"}) {
		t.Errorf("deleted %q", got)
	}
}
