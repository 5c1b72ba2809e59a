//go:build unix

package localfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// A link of an untrusted user makes no path stand for a folder of another user. Links
// of trusted users, and those to the untrusted user's own folders, are followed.
func TestResolveUntrusted(t *testing.T) { // X43
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can give files to another user")
	}
	const stranger = 65534
	base, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"root/web", "theirs/web"} {
		if err := os.MkdirAll(filepath.Join(base, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{
		"theirs/stolen": "../root", "theirs/all": "/", "theirs/own": "web", "theirs/gone": "../root/none", "to-root": "root", "chain": "theirs/stolen", "all": "/",
	} {
		if err := os.Symlink(target, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, path := range []string{"theirs", "theirs/web", "theirs/stolen", "theirs/all", "theirs/own", "theirs/gone"} {
		if err := os.Lchown(filepath.Join(base, path), stranger, stranger); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"theirs/stolen": "theirs/stolen", "theirs/stolen/web": "theirs/stolen/web", "theirs/stolen/new": "theirs/stolen/new",
		"chain/web": "chain/web", "theirs/gone": "theirs/gone", "theirs/all" + base + "/root": "theirs/all" + base + "/root",
		"theirs/own/new": "theirs/web/new", "to-root/web": "root/web", "all" + base + "/root/web": "root/web",
	} {
		if got := localfile.Resolve(filepath.Join(base, path)); got != filepath.Join(base, want) {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	if got := localfile.Resolve(filepath.Join(base, "all")); got != "/" {
		t.Errorf("a link to the root folder is %s", got)
	}
	for path, want := range map[string]bool{"theirs/stolen": false, "theirs/own": true, "to-root": true, "root/none": false} {
		if info, err := localfile.StatFolder(filepath.Join(base, path)); (err == nil && info.IsDir()) != want {
			t.Errorf("%s: %v, want a folder: %t", path, err, want)
		}
	}
}
