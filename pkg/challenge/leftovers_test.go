//go:build unix

package challenge

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What a killed process left in a webroot is removed when it is old, and nothing that
// could be another program's or that an order still needs.
func TestLeftoverTokens(t *testing.T) {
	root := t.TempDir()
	w, err := newWebroot(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(root, ".well-known", "acme-challenge")
	old := time.Now().Add(-leftoverAge - time.Hour)
	put := func(name, text string, at time.Time) {
		t.Helper()
		path := filepath.Join(folder, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	const thumbprint = "dGh1bWJwcmludA"
	unfinished := newFile()
	put("old-token", "old-token."+thumbprint, old)
	put(unfinished, "half", old)
	keep := map[string]string{
		"new-token":      "new-token." + thumbprint,
		"others-token":   "others-token.b3RoZXJz",
		"renamed":        "old-token." + thumbprint,
		"longer":         "longer." + thumbprint + "\n",
		"index.html":     "index.html." + thumbprint,
		".acmeproxy-foo": "foo",
	}
	for name, text := range keep {
		at := old
		if name == "new-token" {
			at = time.Now().Add(-leftoverAge + time.Hour)
		}
		put(name, text, at)
	}
	outside := filepath.Join(t.TempDir(), "link")
	if err := os.WriteFile(outside, []byte("link."+thumbprint), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, err := range []error{
		os.Chtimes(outside, old, old), os.Symlink(outside, filepath.Join(folder, "link")), unix.Mkfifo(filepath.Join(folder, "pipe"), 0o644),
		os.Mkdir(filepath.Join(folder, "folder"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	wantLeft := []string{"folder", "link", "pipe"}
	for name := range keep {
		wantLeft = append(wantLeft, name)
	}
	slices.Sort(wantLeft)
	left := func() (names []string) {
		t.Helper()
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	present := func(token string) {
		t.Helper()
		a, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: token, KeyAuthorization: token + "." + thumbprint})
		if err != nil {
			t.Fatal(err)
		}
		a.Remove()
	}
	present("first")
	if got := left(); !slices.Equal(got, wantLeft) {
		t.Errorf("left %q, want %q", got, wantLeft)
	}
	put("old-token", "old-token."+thumbprint, old) // not looked at again so soon
	present("second")
	if got := left(); !slices.Contains(got, "old-token") {
		t.Error("it looks at each answer")
	}
	w.searched = w.searched.Add(-leftoverInterval)
	present("third")
	if got := left(); !slices.Equal(got, wantLeft) {
		t.Errorf("a day later: left %q, want %q", got, wantLeft)
	}
}

// An answer that is still needed stays, although a clock that was wrong dated it
// long ago.
func TestNeededTokenIsNoLeftover(t *testing.T) {
	w, err := newWebroot(t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	present := func(token string) Answer {
		t.Helper()
		a, err := w.Present(t.Context(), Challenge{Name: "a.example.com", Token: token, KeyAuthorization: token + ".thumbprint"})
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
	path := filepath.Join(w.root, ".well-known", "acme-challenge", "needed")
	old := time.Now().Add(-leftoverAge - time.Hour)
	first := present("needed")
	if err := os.Chtimes(path, old, old); err != nil {
		t.Fatal(err)
	}
	w.searched = time.Time{}
	present("another").Remove()
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	first.Remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file stays after Remove")
	}
}
