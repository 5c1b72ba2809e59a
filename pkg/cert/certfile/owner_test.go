//go:build unix

package certfile_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// writeOwned writes a set for an owner and checks that Claimable says the same before.
func writeOwned(t *testing.T, dir string, serial int64, c certfile.Claim) error {
	t.Helper()
	before := certfile.Layout{}.Claimable(dir, c)
	err := certfile.Layout{}.WriteAs(t.Context(), dir, bundle(t, serial), c)
	if (before == nil) != (err == nil) {
		t.Errorf("Claimable returned %v, WriteAs %v", before, err)
	}
	return err
}

// A folder has one owner, until that lets it go, is removed, or is overruled.
func TestOneOwner(t *testing.T) { // X43
	dir, a, b := filepath.Join(t.TempDir(), "out"), owner(t, "a"), owner(t, "b")
	for serial := range int64(2) {
		if err := writeOwned(t, dir, serial+1, certfile.Claim{Owner: a}); err != nil {
			t.Fatal(err)
		}
	}
	var owned *certfile.OwnedError
	if err := writeOwned(t, dir, 3, certfile.Claim{Owner: b}); !errors.As(err, &owned) || owned.Owner != a || owned.Dir != dir {
		t.Fatalf("error %v", err)
	}
	if b, err := certfile.Read(dir); err != nil || b.Serial() != bundle(t, 2).Serial() {
		t.Errorf("the set was changed (%v)", err)
	}
	if err := certfile.Release(t.Context(), dir, b); err != nil {
		t.Fatal(err)
	}
	if err := writeOwned(t, dir, 3, certfile.Claim{Owner: b}); err == nil {
		t.Error("another owner's folder was released")
	}
	sameState := a
	sameState.Name = "renamed"
	if err := writeOwned(t, dir, 3, certfile.Claim{Owner: sameState}); err != nil {
		t.Errorf("the same state directory: %v", err)
	}
	if err := writeOwned(t, dir, 4, certfile.Claim{Owner: b, Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := writeOwned(t, dir, 5, certfile.Claim{Owner: a}); !errors.As(err, &owned) || owned.Owner != b {
		t.Errorf("after the folder was taken: %v", err)
	}
	if err := certfile.Release(t.Context(), dir, b); err != nil {
		t.Fatal(err)
	}
	if err := writeOwned(t, dir, 5, certfile.Claim{Owner: a}); err != nil {
		t.Errorf("after its owner released it: %v", err)
	}
	if err := os.Rename(a.Dir, a.Dir+"-moved"); err != nil {
		t.Fatal(err)
	}
	a.Dir += "-moved"
	if err := writeOwned(t, dir, 6, certfile.Claim{Owner: a}); err != nil {
		t.Errorf("after the state directory was moved: %v", err)
	}
	if left := versionsIn(t, dir); len(left) != 3 { // two sets and the owner
		t.Errorf("left behind: %q", left)
	}
}

// Processes with the same ID share a folder.
func TestOwnersWithOneID(t *testing.T) { // X43
	dir, a, b := t.TempDir(), owner(t, "a"), owner(t, "a")
	a.ID, b.ID = "proxy", "proxy"
	for i, o := range []certfile.Owner{a, b, a} {
		if err := writeOwned(t, dir, int64(i+1), certfile.Claim{Owner: o}); err != nil {
			t.Errorf("%d: %v", i, err)
		}
	}
	b.Dir, b.ID = a.Dir, "another"
	if err := writeOwned(t, dir, 8, certfile.Claim{Owner: b}); err == nil {
		t.Error("another host, whose directory has the same path, has the folder")
	}
	b.ID = ""
	if err := writeOwned(t, dir, 8, certfile.Claim{Owner: b}); err != nil {
		t.Errorf("without an ID, the path counts: %v", err)
	}
	if err := writeOwned(t, dir, 8, certfile.Claim{Owner: a}); err != nil {
		t.Errorf("without an ID in the record, the path counts: %v", err)
	}
	b.ID = "proxy"
	b.Program = "remote2"
	if err := writeOwned(t, dir, 9, certfile.Claim{Owner: b}); err == nil {
		t.Error("another program with this ID has the folder")
	}
}

// A state directory that is missing here may be another host's, with which this one shares
// the folder. A path without an ID is one of this host.
func TestOwnerElsewhere(t *testing.T) { // X43
	dir, here := t.TempDir(), owner(t, "a")
	elsewhere := certfile.Owner{Program: here.Program, Dir: filepath.Join(t.TempDir(), "missing"), ID: "other", Name: "a"}
	here.ID = "here"
	if err := writeOwned(t, dir, 1, certfile.Claim{Owner: elsewhere}); err != nil {
		t.Fatal(err)
	}
	var owned *certfile.OwnedError
	if err := writeOwned(t, dir, 2, certfile.Claim{Owner: here}); !errors.As(err, &owned) || owned.Owner != elsewhere {
		t.Fatalf("the folder of another host: %v", err)
	}
	if err := writeOwned(t, dir, 2, certfile.Claim{Owner: here, Force: true}); err != nil {
		t.Fatal(err)
	}
	elsewhere.ID = ""
	if err := writeOwned(t, dir, 3, certfile.Claim{Owner: elsewhere, Force: true}); err != nil {
		t.Fatal(err)
	}
	if err := writeOwned(t, dir, 4, certfile.Claim{Owner: here}); err != nil {
		t.Errorf("a directory of this host that was removed: %v", err)
	}
}

// A set of an earlier release has no owner, so the first one to ask has it.
func TestAdopt(t *testing.T) { // X43
	dir, a, b := t.TempDir(), owner(t, "a"), owner(t, "b")
	if err := certfile.Adopt(t.Context(), dir, a); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Lstat(filepath.Join(dir, ".acmeproxy")); err == nil {
		t.Error("a folder without a set was changed")
	}
	write(t, dir, bundle(t, 1))
	for _, o := range []certfile.Owner{a, b} {
		if err := certfile.Adopt(t.Context(), dir, o); err != nil {
			t.Fatal(err)
		}
	}
	if err := writeOwned(t, dir, 2, certfile.Claim{Owner: b}); err == nil {
		t.Error("the second one has the folder")
	}
}

// A damaged record is no owner: the first writer has the folder.
func TestDamagedOwner(t *testing.T) { // X43
	dir, a := t.TempDir(), owner(t, "a")
	write(t, dir, bundle(t, 1))
	for i, text := range []string{
		"", "{", "null", `{"program":"remote","dir":"x","name":"a"}`, `{"program":"remote","dir":"/","name":"../a"}`, strings.Repeat(" ", 1<<15),
		`{"program":"remote","dir":"/\u001b[2J","name":"a"}`, `{"program":"remote","dir":"/\u202e","name":"a"}`,
		`{"program":"remote","dir":"/","id":"\n","name":"a"}`, `{"program":"remote","dir":"/` + strings.Repeat("x", 5000) + `","name":"a"}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, ".acmeproxy", "owner"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := writeOwned(t, dir, int64(i+2), certfile.Claim{Owner: a}); err != nil {
			t.Errorf("%.40q: %v", text, err)
		}
	}
}

// Files of another program are never replaced without Force, which keeps copies.
func TestForeignFiles(t *testing.T) { // X43
	base := t.TempDir()
	live, archive, a := filepath.Join(base, "live", "web1"), filepath.Join(base, "archive", "web1"), owner(t, "a")
	for _, dir := range []string{live, archive} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	put := func(path, text string, mode os.FileMode) {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
	}
	put(filepath.Join(archive, "privkey1.pem"), "certbot's key", 0o600)
	if err := os.Symlink("../../archive/web1/privkey1.pem", filepath.Join(live, "privkey.pem")); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(live, "fullchain.pem"), "a chain", 0o644)
	put(filepath.Join(live, "README"), "no name of a set", 0o644)

	var foreign *certfile.ForeignFilesError
	err := writeOwned(t, live, 1, certfile.Claim{Owner: a})
	if !errors.As(err, &foreign) || strings.Join(foreign.Names, " ") != "privkey.pem fullchain.pem" {
		t.Fatalf("error %v", err)
	}
	var copies []string
	claim := certfile.Claim{Owner: a, Force: true, Copied: func(path string) { copies = append(copies, path) }}
	if err := writeOwned(t, live, 1, claim); err != nil {
		t.Fatal(err)
	}
	if len(copies) != 2 {
		t.Fatalf("copies %q", copies)
	}
	if target, err := os.Readlink(copies[0]); err != nil || target != "../../archive/web1/privkey1.pem" {
		t.Errorf("%s leads to %q (%v)", copies[0], target, err)
	}
	if text, err := os.ReadFile(copies[1]); err != nil || string(text) != "a chain" {
		t.Errorf("%s has %q (%v)", copies[1], text, err)
	}
	if text, err := os.ReadFile(filepath.Join(archive, "privkey1.pem")); err != nil || string(text) != "certbot's key" {
		t.Errorf("certbot's key is %q (%v)", text, err)
	}

	// A changed file of our own set is fixed, as before.
	if err := os.Remove(filepath.Join(live, "fullchain.pem")); err != nil {
		t.Fatal(err)
	}
	put(filepath.Join(live, "fullchain.pem"), "changed", 0o644)
	if err := writeOwned(t, live, 2, certfile.Claim{Owner: a}); err != nil {
		t.Error(err)
	}

	// A name that is new in the set may be foreign. Copies of a day do not overwrite
	// each other, and those of keys are readable by their owner only.
	for range 2 {
		put(filepath.Join(live, "haproxy.pem"), "made by a hook", 0o644)
		haproxy := certfile.Layout{Formats: []string{certfile.FormatHAProxy}}
		if err := haproxy.WriteAs(t.Context(), live, bundle(t, 3), certfile.Claim{Owner: a}); !errors.As(err, &foreign) {
			t.Errorf("haproxy.pem: %v", err)
		}
		if err := haproxy.WriteAs(t.Context(), live, bundle(t, 3), claim); err != nil {
			t.Fatal(err)
		}
		if err := writeOwned(t, live, 4, certfile.Claim{Owner: a}); err != nil {
			t.Fatal(err)
		}
	}
	if len(copies) != 4 || copies[2] == copies[3] {
		t.Fatalf("copies %q", copies)
	}
	for _, path := range copies[2:] {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", path, info, err)
		}
	}
}
