package certfile_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// An output that is a link without a target, or is below one, is known before
// an order, and the error names the target.
func TestProbeDanglingLink(t *testing.T) {
	base := t.TempDir()
	file := filepath.Join(base, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(base, "o")
	for _, target := range []string{filepath.Join(base, "disk", "x"), "disk", filepath.Join(file, "x")} {
		if err := os.Symlink(target, link); err != nil {
			t.Fatal(err)
		}
		for _, dir := range []string{link, filepath.Join(link, "sub"), filepath.Join(link, "sub", "sub")} {
			for _, err := range []error{certfile.Layout{}.Writable(dir), certfile.Layout{}.Probe(t.Context(), dir)} {
				if err == nil || !strings.Contains(err.Error(), link+": it is a symbolic link to "+target) {
					t.Errorf("%s: %v", dir, err)
				}
			}
		}
		if err := os.Remove(link); err != nil {
			t.Fatal(err)
		}
	}
	// A link that leads somewhere is good, also to a folder without the last ones.
	if err := errors.Join(os.Mkdir(filepath.Join(base, "disk"), 0o755), os.Symlink("disk", link)); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, 1)
	for _, dir := range []string{link, filepath.Join(link, "new", "sub")} {
		if err := (certfile.Layout{}).Probe(t.Context(), dir); err != nil {
			t.Error(err)
		}
		write(t, dir, b)
		has(t, dir, b)
	}
}

// A mount point cannot be replaced, so it is known before an order.
func TestProbeMountPoint(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	source, path := filepath.Join(t.TempDir(), "cert"), filepath.Join(dir, "cert.pem")
	if err := errors.Join(os.WriteFile(source, nil, 0o600), os.WriteFile(path, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount(source, path, "", unix.MS_BIND, ""); err != nil {
		t.Skip("NOT TESTED: this machine cannot mount: ", err)
	}
	for _, err := range []error{certfile.Layout{}.Probe(t.Context(), dir), certfile.Write(t.Context(), dir, bundle(t, 1))} {
		if err == nil || !strings.Contains(err.Error(), path+" is a mount point") {
			t.Error(err)
		}
	}
	if err := unix.Unmount(path, 0); err != nil {
		t.Fatal(err)
	}
	b := bundle(t, 2)
	write(t, dir, b)
	has(t, dir, b)
}

// A probe that was killed is removed by the next one, and nothing else is.
func TestProbeLeftovers(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "web1")
	old := time.Now().Add(-time.Hour)
	for _, inside := range []bool{false, true} {
		in, prefix := above, ".acmeproxy-"
		if inside {
			write(t, dir, bundle(t, 1))
			in, prefix = filepath.Join(dir, ".acmeproxy"), "20260101T000000-"
		}
		for name, files := range map[string][]string{
			"1": {"probe"}, "2": {}, "3": {"probe", "other"}, "4": {"other"}, "5": nil, "x": {"probe"},
		} {
			path := filepath.Join(in, prefix+name)
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				if err := os.WriteFile(filepath.Join(path, file), nil, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if files != nil {
				if err := os.Chtimes(path, old, old); err != nil {
					t.Fatal(err)
				}
			}
		}
		if err := (certfile.Layout{}).Probe(t.Context(), dir); err != nil {
			t.Fatal(err)
		}
		for name, stays := range map[string]bool{"1": false, "2": false, "3": true, "4": true, "5": true, "x": true} {
			if _, err := os.Lstat(filepath.Join(in, prefix+name)); errors.Is(err, fs.ErrNotExist) == stays {
				t.Errorf("%s%s: %v, want it to stay: %v", prefix, name, err, stays)
			}
		}
	}
}

// Probes of several processes do not make each other fail.
func TestProbesAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "web1")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for range 25 {
				if err := (certfile.Layout{}).Probe(t.Context(), dir); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	if entries, err := os.ReadDir(filepath.Dir(dir)); err != nil || len(entries) != 0 {
		t.Errorf("probes leave %v, %v", entries, err)
	}
}
