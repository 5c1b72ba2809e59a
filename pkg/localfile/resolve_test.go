package localfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// All spellings of one folder resolve to one path, whether it exists or not.
func TestResolve(t *testing.T) { // X43
	base := t.TempDir()
	base, err := filepath.EvalSymlinks(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(base, "real", "web1"), 0o755); err != nil {
		t.Fatal(err)
	}
	for link, target := range map[string]string{"link": "real", "chain": filepath.Join(base, "link"), "dangling": "nowhere"} {
		if err := os.Symlink(target, filepath.Join(base, link)); err != nil {
			t.Fatal(err)
		}
	}
	for path, want := range map[string]string{
		"real/web1": "real/web1", "link/web1": "real/web1", "chain/web1/": "real/web1", "real/../chain/./web1": "real/web1",
		"link/new/deep": "real/new/deep", "chain/web1/new": "real/web1/new", "none/new": "none/new", "dangling": "dangling",
	} {
		if got := localfile.Resolve(base + "/" + path); got != filepath.Join(base, want) {
			t.Errorf("%s is %s, want %s", path, got, want)
		}
	}
	t.Chdir(base)
	if got := localfile.Resolve("link/web1"); got != filepath.Join(base, "real", "web1") {
		t.Errorf("a relative path is %s", got)
	}
}
