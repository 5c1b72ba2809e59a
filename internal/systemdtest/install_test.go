//go:build unix

package systemdtest

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// runMake runs a target and returns its output and exit code.
func runMake(t *testing.T, args ...string) (string, int) {
	t.Helper()
	c := exec.CommandContext(t.Context(), pebbletest.Tool(t, "make"), append([]string{"--no-print-directory", "-C", "../.."}, args...)...)
	for _, entry := range os.Environ() { // without the settings of a make that runs the tests
		name, _, _ := strings.Cut(entry, "=")
		if !slices.Contains([]string{"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "PREFIX", "DESTDIR", "BINDIR"}, name) {
			c.Env = append(c.Env, entry)
		}
	}
	out, err := c.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return string(out), c.ProcessState.ExitCode()
}

// installed returns the mode of each file below a folder.
func installed(t *testing.T, dir string) map[string]fs.FileMode {
	t.Helper()
	files := map[string]fs.FileMode{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		files[strings.TrimPrefix(path, dir)] = info.Mode()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// make install needs no root for a DESTDIR, gives the same result the second time and
// with a narrow umask, and the units start the program in its folder.
func TestInstall(t *testing.T) {
	built, dest := t.TempDir(), t.TempDir()
	for name, text := range map[string]string{
		"bin/acmeproxy": "program", "dist/man/acmeproxy.1": "page", "dist/man/acmeproxy-serve.1": "page",
		"dist/completions/acmeproxy.bash": "bash", "dist/completions/_acmeproxy": "zsh", "dist/completions/acmeproxy.fish": "fish",
	} {
		file := filepath.Join(built, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	defer syscall.Umask(syscall.Umask(0o077))
	from := []string{"BIN=" + built + "/bin", "DIST=" + built + "/dist", "DESTDIR=" + dest, "PREFIX=/opt/acmeproxy-1.0"}
	want := map[string]fs.FileMode{
		"/bin/acmeproxy": 0o755, "/lib/acmeproxy/certbot-hook": 0o755, "/lib/acmeproxy/dehydrated-hook": 0o755, "/lib/acmeproxy/uacme-hook": 0o755,
	}
	for _, file := range []string{
		"/share/man/man1/acmeproxy.1", "/share/man/man1/acmeproxy-serve.1", "/share/bash-completion/completions/acmeproxy",
		"/share/zsh/site-functions/_acmeproxy", "/share/fish/vendor_completions.d/acmeproxy.fish",
		"/lib/systemd/system/acmeproxy.service", "/lib/systemd/system/acmeproxy-remote.service",
		"/lib/acmeproxy/acme.sh-hook",
	} {
		want[file] = 0o644
	}
	for range 2 {
		if out, code := runMake(t, append([]string{"install"}, from...)...); code != 0 {
			t.Fatal(out)
		}
		if diff := cmp.Diff(want, installed(t, dest+"/opt/acmeproxy-1.0")); diff != "" {
			t.Fatal(diff)
		}
	}
	for name := range units(t) {
		text, err := os.ReadFile(dest + "/opt/acmeproxy-1.0/lib/systemd/system/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(text), "\nExecStart=/opt/acmeproxy-1.0/bin/acmeproxy ") || strings.Contains(string(text), program) {
			t.Errorf("%s: %s", name, text)
		}
	}
	if out, code := runMake(t, append([]string{"uninstall"}, from...)...); code != 0 {
		t.Fatal(out)
	}
	if left := slices.Collect(maps.Keys(installed(t, dest))); len(left) > 0 {
		t.Errorf("uninstall leaves %q", left)
	}

	for fault, args := range map[string][]string{
		"run make dist first":   {"BIN=" + built, "DIST=" + built, "DESTDIR=" + dest},
		"PREFIX is empty":       append(slices.Clone(from[:3]), "PREFIX="),
		"use another PREFIX":    append(slices.Clone(from[:3]), "PREFIX=/opt/a b"),
		"is not an absolute pa": append(slices.Clone(from[:3]), "PREFIX=opt"),
	} {
		if out, code := runMake(t, append([]string{"install"}, args...)...); code == 0 || !strings.Contains(out, fault) {
			t.Errorf("%q: exit code %d: %s", args, code, out)
		}
	}
}
