package store_test

import (
	"bytes"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/store/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContract(t *testing.T) { // C12
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty.db") // migrated once, which takes most of a case's time
	if err := open(t, empty, time.Now).Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(empty)
	if err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t *testing.T, now func() time.Time) *store.Store {
		path := filepath.Join(t.TempDir(), "acmeproxy.db")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, path, now)
		t.Cleanup(func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		})
		return s
	})
}

func TestReopen(t *testing.T) {
	// A path that means something else in a URI.
	path := filepath.Join(t.TempDir(), "100% of #1?mode=memory&x=y.db")
	storetest.Reopen(t, func(t *testing.T, now func() time.Time) *store.Store { return open(t, path, now) })
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, path string, now func() time.Time) *store.Store {
	t.Helper()
	s, err := store.Open(t.Context(), store.Config{Path: path, Now: now, Trail: storetest.Trail})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestFilesArePrivate(t *testing.T) { // A38
	dir := t.TempDir()
	path := filepath.Join(dir, "acmeproxy.db")
	if err := os.WriteFile(path, nil, 0o644); err != nil { // as an older umask left it
		t.Fatal(err)
	}
	s := open(t, path, nil)
	defer s.Close()
	if _, err := s.CreateClient(t.Context(), clients.Client{Name: "a"}); err != nil {
		t.Fatal(err)
	}
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		t.Errorf("%d files, want the write-ahead log beside the database", len(files))
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		if mode := info.Mode().Perm(); mode != 0o600 {
			t.Errorf("%s has mode %o, want 600", f.Name(), mode)
		}
	}
}

func TestRemovedIsUnreadable(t *testing.T) { // X17
	dir := t.TempDir()
	path := filepath.Join(dir, "acmeproxy.db")
	s := open(t, path, nil)
	c, err := s.CreateClient(t.Context(), clients.Client{Name: "a-removed-client-name"})
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveClient(t.Context(), c.ID); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte(c.Name)) {
		t.Error("the removed client's name is still in the file")
	}
}

func TestOpenErrors(t *testing.T) { // A37
	for _, tc := range []struct {
		name    string
		prepare func(t *testing.T, path string) string
		want    string
	}{
		{"no directory", func(t *testing.T, path string) string { return filepath.Join(path, "missing", "a.db") }, "check that the directory exists"},
		{"a directory", func(t *testing.T, path string) string { return filepath.Dir(path) }, "is a directory"},
		{"no database", func(t *testing.T, path string) string {
			write(t, path, bytes.Repeat([]byte("not a database\n"), 1000))
			return path
		}, "restore a backup, or move the file away"},
		{"damaged", func(t *testing.T, path string) string { damage(t, path); return path }, "restore a backup, or move the file away"},
		{"cut off", func(t *testing.T, path string) string { cutOff(t, path); return path }, "restore a backup, or move the file away"},
		{"newer schema", func(t *testing.T, path string) string { newer(t, path); return path }, "run the newer program that wrote it"},
		{"no place for files", func(*testing.T, string) string { return "/proc/acmeproxy.db" }, "may write the file"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			path := tc.prepare(t, filepath.Join(t.TempDir(), "acmeproxy.db"))
			before, _ := os.ReadFile(path)
			s, err := store.Open(t.Context(), store.Config{Path: path})
			if err == nil {
				s.Close()
				t.Fatal("opened")
			}
			t.Log(err)
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %q does not name %s and %q", err, path, tc.want)
			}
			after, _ := os.ReadFile(path)
			if !bytes.Equal(before, after) {
				t.Error("the failed open changed the file")
			}
		})
	}
	if _, err := store.Open(t.Context(), store.Config{}); err == nil || !strings.Contains(err.Error(), "path is empty") {
		t.Errorf("empty path: %v", err)
	}
}

func write(t *testing.T, path string, b []byte) {
	t.Helper()
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

// made returns the bytes of a database that the store made.
func made(t *testing.T, path string) []byte {
	t.Helper()
	if err := open(t, path, nil).Close(); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func damage(t *testing.T, path string) {
	b := made(t, path)
	for i := 100; i < len(b); i++ { // all but the header
		b[i] = 0xa5
	}
	write(t, path, b)
}

func cutOff(t *testing.T, path string) {
	b := made(t, path)
	write(t, path, b[:len(b)/3])
}

func newer(t *testing.T, path string) {
	made(t, path)
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec(`INSERT INTO goose_db_version (version_id, is_applied) VALUES (9000, 1)`); err != nil {
		t.Fatal(err)
	}
}

// TestUnwritable runs itself again without privileges, because root may write
// what it pleases.
func TestUnwritable(t *testing.T) { // A37
	if dir := os.Getenv("STORE_TEST_UNWRITABLE"); dir != "" {
		for _, path := range []string{dir + "/ro-dir/new.db", dir + "/ro-dir/acmeproxy.db", dir + "/ro-dir/own.db", dir + "/ro.db"} {
			s, err := store.Open(t.Context(), store.Config{Path: path})
			if err == nil {
				s.Close()
				t.Errorf("%s was opened", path)
				continue
			}
			t.Log(err)
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "check that") ||
				!strings.Contains(err.Error(), fmt.Sprintf("user id %d", os.Geteuid())) {
				t.Errorf("error %q does not name the path, the user and the remedy", err)
			}
		}
		return
	}
	dir := t.TempDir()
	roDir := filepath.Join(dir, "ro-dir")
	if err := os.Mkdir(roDir, 0o755); err != nil {
		t.Fatal(err)
	}
	made(t, filepath.Join(roDir, "acmeproxy.db"))
	made(t, filepath.Join(dir, "ro.db"))
	made(t, filepath.Join(roDir, "own.db")) // but no log can be made beside it
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(exe, "-test.run=^TestUnwritable$", "-test.v")
	if os.Geteuid() == 0 {
		cmd = asNobody(t, dir, exe)
		if err := os.Chown(filepath.Join(roDir, "own.db"), otherUser, otherUser); err != nil {
			t.Fatal(err)
		}
	}
	for path, mode := range map[string]os.FileMode{filepath.Join(roDir, "acmeproxy.db"): 0o666, filepath.Join(dir, "ro.db"): 0o444, roDir: 0o555} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(roDir, 0o755) })
	cmd.Env = append(os.Environ(), "STORE_TEST_UNWRITABLE="+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Error(err)
	}
	t.Logf("%s", out)
}

const otherUser = 65534

// asNobody runs a copy of exe, which is in a directory that only root may enter.
func asNobody(t *testing.T, dir, exe string) *exec.Cmd {
	t.Helper()
	b, err := os.ReadFile(exe)
	if err != nil {
		t.Fatal(err)
	}
	exe = filepath.Join(dir, "store.test")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(exe, "-test.run=^TestUnwritable$", "-test.v")
	cmd.Dir = dir
	runAs(cmd, otherUser)
	return cmd
}
