//go:build unix

package remote

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// The owner of an output folder cannot take folders away from other certificates with a
// link. An administrator's own link makes two paths one folder.
func TestFolderLinkedByOthers(t *testing.T) { // X43
	needRoot(t)
	s := newEvil(t).enrolled(t)
	theirs, web := filepath.Join(s.Dir, "theirs"), filepath.Join(s.Dir, "web")
	link := filepath.Join(theirs, "ssl")
	if err := errors.Join(os.Mkdir(theirs, 0o755), os.Mkdir(web, 0o755), os.Symlink(web, link)); err != nil {
		t.Fatal(err)
	}
	z := want(t, s, clients.ModeGateway)
	z.Name, z.Out = "z", web
	kept, err := s.loadKept(z)
	if err != nil {
		t.Fatal(err)
	}
	a := want(t, s, clients.ModeGateway)
	a.Name, a.Out = "a", link
	if err := s.remember(t.Context(), a); err != nil {
		t.Fatal(err)
	}
	var shared *FolderError
	if _, err := s.reserve(t.Context(), kept); !errors.As(err, &shared) {
		t.Fatalf("with root's link: %v", err)
	}
	give(t, theirs)
	give(t, link)
	free, err := s.reserve(t.Context(), kept)
	if err != nil {
		t.Fatalf("with another user's link: %v", err)
	}
	free()
	if err := s.remember(t.Context(), z); err != nil {
		t.Fatal(err)
	}
	all, err := s.rows()
	if err != nil || len(all) != 2 {
		t.Fatalf("%d rows, %v", len(all), err)
	}
	setRivals(all)
	for _, k := range all {
		if err := k.Conflict(); err != nil {
			t.Errorf("%s: %v", k.Name, err)
		}
	}
}
