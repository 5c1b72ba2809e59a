package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"
)

// versions returns a part whose schema has the versions 1 to n; rows are in the
// table of the first.
func versions(n int) Part {
	p := Part{Name: "core", VersionTable: "goose_db_version"}
	files := fstest.MapFS{}
	for i := range n {
		table := fmt.Sprintf("t%d", i+1)
		p.Tables = append(p.Tables, table)
		files[fmt.Sprintf("%04d_step.sql", i+1)] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE " + table + " (id BIGINT NOT NULL PRIMARY KEY, text TEXT NOT NULL);\n")}
	}
	p.Migrations = files
	return p
}

// atVersion creates a SQLite file as the program of that schema version left it.
func atVersion(t *testing.T, path string, version, rows int) {
	t.Helper()
	db, err := Open(t.Context(), Config{Path: path, Parts: []Part{versions(version)}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(t.Context(), fmt.Sprintf(`WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %d)
		INSERT INTO t1 (id, text) SELECT i, hex(randomblob(100)) FROM n`, rows)); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}

// newest is the version that the program under test knows.
const newest = 6

func atNewest(path string) Config { return Config{Path: path, Parts: []Part{versions(newest)}} }

// versionOf opens a SQLite file as no migration would and returns its schema's version.
func versionOf(t *testing.T, path string) (version int64) {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+path+"?mode=ro")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var verdict string
	if err := db.QueryRowContext(t.Context(), `PRAGMA integrity_check`).Scan(&verdict); err != nil || verdict != "ok" {
		t.Fatalf("%s: %s, %v", path, verdict, err)
	}
	if err := db.QueryRowContext(t.Context(), `SELECT MAX(version_id) FROM goose_db_version`).Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

// beside returns the names of the files in the database's directory.
func beside(t *testing.T, path string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Dir(path))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

func upgrade(t *testing.T, path string) Migration {
	t.Helper()
	m, err := Migrate(t.Context(), atNewest(path))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestCopyBeforeMigration(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	atVersion(t, path, 2, 3)
	m := upgrade(t, path)
	if want := path + ".before-2"; m.Copy != want || m.From != 2 {
		t.Errorf("%+v, want the copy %s", m, want)
	}
	if v := versionOf(t, m.Copy); v != 2 {
		t.Errorf("the copy has version %d", v)
	}
	if info, err := os.Stat(m.Copy); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the copy is %v, %v", info, err)
	}
	if again := upgrade(t, path); again.Copy != "" {
		t.Errorf("a database without pending migrations was copied to %s", again.Copy)
	}
	if got, want := beside(t, path), []string{"acmeproxy.db", "acmeproxy.db.before-2"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}

	// The way back is that of docs/database.md.
	raw, err := os.ReadFile(m.Copy)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	if v := versionOf(t, path); v != 2 {
		t.Errorf("version %d after the way back", v)
	}
	if m := upgrade(t, path); m.From != 2 || m.Copy != path+".before-2" {
		t.Errorf("second upgrade: %+v", m)
	}
	s, err := Open(t.Context(), atNewest(path))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var n int
	if err := s.Reader().QueryRowContext(t.Context(), `SELECT COUNT(*) FROM t1`).Scan(&n); err != nil || n != 3 {
		t.Errorf("%d rows, %v", n, err)
	}
}

// Rows that hold keys do not outlive their purpose in a copy, nor in free pages of it.
func TestCopyOmitsFleetingRows(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	older, newer := versions(2), versions(newest)
	older.Fleeting, newer.Fleeting = []string{"t1"}, []string{"t1", "t3"}
	old := openParts(t, Config{Path: path}, older)
	const lasting, fleeting = "a row that stays", "a row that holds a key"
	run(t, old, `INSERT INTO t1 (id, text) VALUES (1, $1)`, fleeting)
	run(t, old, `INSERT INTO t2 (id, text) VALUES (1, $1)`, lasting)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}
	m, err := Migrate(t.Context(), Config{Path: path, Parts: []Part{newer}})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(m.Copy)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(raw), lasting) || strings.Contains(string(raw), fleeting) {
		t.Error("the copy has not exactly the lasting rows")
	}
	if v := versionOf(t, m.Copy); v != 2 {
		t.Errorf("the copy has version %d", v)
	}
	if got, want := beside(t, path), []string{"acmeproxy.db", "acmeproxy.db.before-2"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	db := openParts(t, Config{Path: path}, newer)
	if got := texts(t, db, `SELECT text FROM t1`); !slices.Equal(got, []string{fleeting}) {
		t.Errorf("rows %q after the migration", got)
	}
}

func TestNewDatabaseIsNotCopied(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	var seen []Migration
	c := atNewest(path)
	c.Migrated = func(m Migration) { seen = append(seen, m) }
	s, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 1 || seen[0].From != 0 || seen[0].Copy != "" {
		t.Errorf("%+v", seen)
	}
	if got := beside(t, path); !slices.Equal(got, []string{"acmeproxy.db"}) {
		t.Errorf("files %q", got)
	}
}

// The last two copies stay, and nothing that only looks like one is removed.
func TestThirdMigrationRemovesOldestCopy(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "acmeproxy.db")
	others := []string{"acmeproxy.db.before-007", "acmeproxy.db.before-1.old", "acmeproxy.db.before-", "other.db.before-1", "xacmeproxy.db.before-1"}
	for _, name := range others {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "acmeproxy.db.before-99"), 0o700); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	for i, version := range []int{4, 1, 2} { // 4: the administrator went back
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		atVersion(t, path, version, 1)
		m := upgrade(t, path)
		made := now.Add(time.Duration(i-3) * time.Hour) // no two at the same time
		if err := os.Chtimes(m.Copy, made, made); err != nil {
			t.Fatal(err)
		}
	}
	want := slices.Sorted(slices.Values(append(others, "acmeproxy.db", "acmeproxy.db.before-1", "acmeproxy.db.before-2", "acmeproxy.db.before-99")))
	if got := beside(t, path); !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}

// An upgrade that fails in the middle and continues later has one copy, from before it
// began. Until it succeeds, no older copy is removed.
func TestInterruptedMigrationHasOneCopy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	atVersion(t, path, 2, 3)
	for _, older := range []string{".before-1", ".before-1.part-journal"} {
		if err := os.WriteFile(path+older, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	broken := versions(newest)
	broken.Migrations.(fstest.MapFS)["0004_step.sql"] = &fstest.MapFile{Data: []byte("-- +goose Up\nCREATE TABLE t3 (id BIGINT);\n")}
	for range 3 {
		if _, err := Migrate(t.Context(), Config{Path: path, Parts: []Part{broken}}); err == nil {
			t.Fatal("the migration succeeded")
		}
	}
	if got, want := beside(t, path), []string{"acmeproxy.db", "acmeproxy.db.before-1", "acmeproxy.db.before-1.part-journal", "acmeproxy.db.before-2", "acmeproxy.db.upgrading"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if m := upgrade(t, path); m.From != 3 || m.Copy != "" {
		t.Errorf("%+v", m)
	}
	if got, want := beside(t, path), []string{"acmeproxy.db", "acmeproxy.db.before-1", "acmeproxy.db.before-2"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
	if v := versionOf(t, path+".before-2"); v != 2 {
		t.Errorf("the copy has version %d", v)
	}
}

func TestFailedCopyStopsMigration(t *testing.T) {
	for name, obstacle := range map[string]string{"no place for the copy": ".before-2.part/x", "its name is taken": ".before-2/x"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "acmeproxy.db")
			atVersion(t, path, 2, 1)
			if err := os.MkdirAll(path+obstacle, 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := Migrate(t.Context(), atNewest(path))
			if err == nil {
				t.Fatal("migrated without a copy")
			}
			t.Log(err)
			for _, part := range []string{path + ".before-2", "check the free space"} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("error %q does not say %q", err, part)
				}
			}
			if v := versionOf(t, path); v != 2 {
				t.Errorf("the schema has version %d", v)
			}
			if info, err := os.Stat(path + ".before-2.part"); err == nil && !info.IsDir() {
				t.Error("half a copy stayed")
			}
		})
	}
	t.Run("canceled", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "acmeproxy.db")
		atVersion(t, path, 2, 1)
		release, err := lockUpgrade(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		defer release()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := Migrate(ctx, atNewest(path)); !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled wait for another process: %v", err)
		}
	})
}

// Instances that open an old database together make one copy, of the old schema.
func TestInstancesMigrateTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	atVersion(t, path, 2, 100)
	const instances = 8
	made := make([]Migration, instances)
	var wg sync.WaitGroup
	for i := range instances {
		wg.Go(func() {
			m, err := Migrate(t.Context(), atNewest(path))
			if err != nil {
				t.Error(err)
			}
			made[i] = m
		})
	}
	wg.Wait()
	copies := 0
	for _, m := range made {
		if m.Copy != "" {
			copies++
		}
	}
	if copies != 1 {
		t.Errorf("%d instances made a copy", copies)
	}
	if v := versionOf(t, path+".before-2"); v != 2 {
		t.Errorf("the copy has version %d", v)
	}
	if got := beside(t, path); len(got) != 2 {
		t.Errorf("files %q", got)
	}
}

// A process that is killed while it copies leaves a database that the next one
// copies and migrates.
func TestKilledWhileCopying(t *testing.T) {
	if path := os.Getenv("SQLDB_TEST_MIGRATE"); path != "" {
		_, _ = Migrate(t.Context(), atNewest(path)) // until it is killed
		return
	}
	path := filepath.Join(t.TempDir(), "acmeproxy.db")
	atVersion(t, path, 2, 5_000)
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilledWhileCopying$")
	cmd.Env = append(os.Environ(), "SQLDB_TEST_MIGRATE="+path)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(path + ".before-2.part"); err == nil {
			break
		}
		if _, err := os.Stat(path + ".before-2"); err == nil {
			break
		}
		runtime.Gosched()
	}
	_ = cmd.Process.Kill() // it may have ended
	_ = cmd.Wait()
	m := upgrade(t, path)
	t.Logf("%+v", m)
	if v := versionOf(t, path+".before-2"); v != 2 {
		t.Errorf("the copy has version %d", v)
	}
	if got, want := beside(t, path), []string{"acmeproxy.db", "acmeproxy.db.before-2"}; !slices.Equal(got, want) {
		t.Errorf("files %q, want %q", got, want)
	}
}
