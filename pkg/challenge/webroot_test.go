//go:build unix

package challenge

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// A CA's token becomes a file's name: nothing of a path may be in it.
func TestTokensAreNoPaths(t *testing.T) {
	root := t.TempDir()
	w, err := newWebroot(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []string{"", "..", "../../index.html", "a/b", ".htaccess", "a\x00b", strings.Repeat("a", 256), "ä"} {
		if _, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: token, KeyAuthorization: "x"}); err == nil {
			t.Errorf("%q was written", token)
		}
	}
	if _, err := os.Stat(filepath.Join(root, "index.html")); err == nil {
		t.Error("a file outside of the folder")
	}
	a, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "A-z_09", KeyAuthorization: "x"})
	if err != nil {
		t.Fatal(err)
	}
	again, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "A-z_09", KeyAuthorization: "x"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(root, ".well-known", "acme-challenge", "A-z_09")
	a.Remove()
	if _, err := os.Stat(path); err != nil {
		t.Errorf("another order needs it still: %v", err)
	}
	again.Remove()
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is still there")
	}
}

// A deployment that removes or replaces the webroot ends no renewal: what is
// missing is created again, and answers of before are forgotten.
func TestWebrootIsRecreated(t *testing.T) {
	for name, deploy := range map[string]func(root string) error{
		"folder removed":  func(root string) error { return os.RemoveAll(root) },
		"content removed": func(root string) error { return os.RemoveAll(filepath.Join(root, ".well-known")) },
		"tokens removed":  func(root string) error { return os.RemoveAll(filepath.Join(root, ".well-known", "acme-challenge")) },
		"replaced by a link": func(root string) error {
			if err := os.Mkdir(root+"-2", 0o755); err != nil {
				return err
			}
			return errors.Join(os.Rename(root, root+"-1"), os.Symlink(root+"-2", root))
		},
	} {
		root := filepath.Join(t.TempDir(), "html")
		if err := os.Mkdir(root, 0o755); err != nil {
			t.Fatal(err)
		}
		w, err := newWebroot(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		before, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "before", KeyAuthorization: "x"})
		if err != nil {
			t.Fatal(err)
		}
		if err := deploy(root); err != nil {
			t.Fatal(err)
		}
		a, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "after", KeyAuthorization: "answer"})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		path := filepath.Join(root, ".well-known", "acme-challenge", "after")
		if got, err := os.ReadFile(path); err != nil || string(got) != "answer" {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		before.Remove()
		a.Remove()
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 0 {
			t.Errorf("%s: left behind %v, %v", name, left, err)
		}
	}
}

// The web server can enter what is created again, as under the shipped unit.
func TestRecreatedWebrootIsReadable(t *testing.T) {
	root := filepath.Join(t.TempDir(), "site", "html")
	if err := os.MkdirAll(root, 0o755); err != nil {
		t.Fatal(err)
	}
	w, err := newWebroot(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Dir(root)); err != nil {
		t.Fatal(err)
	}
	umask := unix.Umask(0o077)
	_, err = w.Present(t.Context(), Challenge{Name: "a.example", Token: "token", KeyAuthorization: "x"})
	unix.Umask(umask)
	if err != nil {
		t.Fatal(err)
	}
	for path := filepath.Join(root, ".well-known", "acme-challenge"); path != filepath.Dir(filepath.Dir(root)); path = filepath.Dir(path) {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
}

// A link that only a trusted user can have made leads to the folder of the tokens of
// all sites.
func TestWebrootWithTrustedLink(t *testing.T) {
	for _, part := range []string{".well-known", ".well-known/acme-challenge"} {
		root, shared := t.TempDir(), t.TempDir()
		path := filepath.Join(root, part)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.Symlink(shared, path)); err != nil {
			t.Fatal(err)
		}
		w, err := newWebroot(root, nil)
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		a, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "token", KeyAuthorization: "x"})
		if err != nil {
			t.Fatalf("%s: %v", part, err)
		}
		published := filepath.Join(root, ".well-known", "acme-challenge", "token")
		if got, err := os.ReadFile(published); err != nil || string(got) != "x" {
			t.Errorf("%s: %q, %v", part, got, err)
		}
		a.Remove()
		if _, err := os.Stat(published); err == nil {
			t.Errorf("%s: the answer stays", part)
		}
	}
}

// In a webroot only links are refused, at start and for each answer. Nothing
// is written or removed behind one, and a link with the name of a token is replaced.
func TestWebrootWithLinks(t *testing.T) {
	for _, part := range []string{".well-known", ".well-known/acme-challenge"} {
		root, outside := t.TempDir(), t.TempDir()
		w, err := newWebroot(root, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "token", KeyAuthorization: "x"})
		if err != nil {
			t.Fatal(err)
		}
		path, victim := filepath.Join(root, part), filepath.Join(outside, "acme-challenge", "token")
		if part != ".well-known" {
			victim = filepath.Join(outside, "token")
		}
		if err := errors.Join(os.RemoveAll(path), os.MkdirAll(filepath.Dir(victim), 0o755), os.WriteFile(victim, nil, 0o600), os.Symlink(outside, path),
			os.Chmod(filepath.Dir(path), 0o777)); err != nil { // another user can have made the link
			t.Fatal(err)
		}
		for _, err := range []error{
			func() error { _, err := newWebroot(root, nil); return err }(),
			func() error {
				_, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "another", KeyAuthorization: "x"})
				return err
			}(),
		} {
			if err == nil || !strings.Contains(err.Error(), path+" is a symbolic link") {
				t.Errorf("%s: %v", part, err)
			}
		}
		a.Remove()
		if _, err := os.Stat(victim); err != nil {
			t.Errorf("%s: a file behind the link was removed: %v", part, err)
		}
	}
	root, outside := t.TempDir(), filepath.Join(t.TempDir(), "file")
	w, err := newWebroot(root, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(outside, filepath.Join(root, ".well-known", "acme-challenge", "token")); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Present(t.Context(), Challenge{Name: "a.example", Token: "token", KeyAuthorization: "x"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(outside); err == nil {
		t.Error("a file was written through a link")
	}
}

// A folder that cannot serve is noticed at start.
func TestWebrootFaults(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, root := range []string{file, filepath.Join(t.TempDir(), "none")} {
		_, err := FromWebroot(root, nil)
		if err == nil || !strings.Contains(err.Error(), "http-01-webroot: ") || !strings.Contains(err.Error(), root) {
			t.Errorf("%s: got %v", root, err)
		}
	}
}
