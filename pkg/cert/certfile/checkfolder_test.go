package certfile_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// Folders that were certainly not meant are refused, with what to use.
func TestCheckFolder(t *testing.T) { // X43
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		dir: "", filepath.Join(dir, "missing"): "", filepath.Join(dir, "~web"): "",
		filepath.Join(filepath.VolumeName(dir), string(filepath.Separator)): "root of a file system",
		filepath.Join(dir, "~"):               "no shell",
		filepath.Join(dir, "~", "ssl"):        "no shell",
		filepath.Join(dir, ".acmeproxy"):      "part of a certificate's files",
		filepath.Join(dir, ".acmeproxy", "a"): "part of a certificate's files",
		file:                                  "is not a folder",
		file + "/":                            "is not a folder",
	} {
		if err := certfile.CheckFolder(path); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}
