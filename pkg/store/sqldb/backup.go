package sqldb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// keptCopies is the number of copies of a SQLite file that are retained.
const keptCopies = 2

// partial is the suffix of a copy that is not complete.
const partial = ".part"

// upgrading is the suffix of a file that exists from the copy until the migration has
// succeeded. It holds the version from which the migration began.
const upgrading = ".upgrading"

// backUp copies the SQLite file at path aside, before the schema of that version is
// migrated, and returns the copy's path. It makes no second copy if an interrupted
// migration continues. The caller holds the file's upgrade lock.
func backUp(ctx context.Context, db *sql.DB, path string, parts []Part, version int64) (string, error) {
	if from, ok := readUpgrading(path); ok && from < version {
		return "", nil
	}
	to := copyName(path, version)
	err := copyAside(ctx, db, parts, to+partial)
	if err == nil {
		err = withRemedy(os.Rename(to+partial, to))
	}
	if err == nil {
		err = withRemedy(writeUpgrading(path, version))
	}
	if err == nil {
		err = withRemedy(syncDir(filepath.Dir(to)))
	}
	if err != nil {
		_ = os.Remove(to + partial) // the error above is the one to report
		_ = os.Remove(to + partial + "-journal")
		return "", fmt.Errorf("copy it to %s before its migration: %w", to, err)
	}
	return to, nil
}

// finishUpgrade removes all copies but the last two, after a migration succeeded.
func finishUpgrade(path string) error {
	from, ok := readUpgrading(path)
	if !ok {
		return nil
	}
	if err := removeCopies(path, copyName(path, from)); err != nil {
		return fmt.Errorf("remove old copies of %s: %w", path, withRemedy(err))
	}
	return withRemedy(os.Remove(path + upgrading))
}

func copyName(path string, version int64) string { return fmt.Sprintf("%s.before-%d", path, version) }

func readUpgrading(path string) (from int64, ok bool) {
	text, err := os.ReadFile(path + upgrading)
	if err != nil {
		return 0, false
	}
	from, err = strconv.ParseInt(string(text), 10, 64)
	return from, err == nil
}

func writeUpgrading(path string, version int64) error {
	if err := os.Remove(path + upgrading); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	f, err := os.OpenFile(path+upgrading, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprint(f, version)
	return errors.Join(err, f.Sync(), f.Close())
}

// copyAside writes a consistent copy without the fleeting tables' rows to the disk.
func copyAside(ctx context.Context, db *sql.DB, parts []Part, to string) error {
	if err := os.Remove(to); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed process
		return withRemedy(err)
	}
	// SQLite fills an empty file and keeps its mode.
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return withRemedy(err)
	}
	if err := f.Close(); err != nil {
		return withRemedy(err)
	}
	if _, err := db.ExecContext(ctx, `VACUUM INTO $1`, to); err != nil {
		return err // the caller classifies it
	}
	if err := clearFleeting(ctx, parts, to); err != nil {
		return err
	}
	if f, err = os.OpenFile(to, os.O_RDWR, 0); err != nil {
		return withRemedy(err)
	}
	return withRemedy(errors.Join(f.Sync(), f.Close()))
}

// clearFleeting removes the rows of the fleeting tables from the copy at path. An
// incomplete copy is discarded, so the journal of the change need not be on the disk,
// where it would hold the rows.
func clearFleeting(ctx context.Context, parts []Part, path string) error {
	db, err := sql.Open("sqlite", sqliteAddress(path)+"?_pragma=journal_mode(MEMORY)&_pragma=secure_delete(1)")
	if err != nil {
		return err
	}
	defer db.Close() // a failed change is reported by its statement
	for _, p := range parts {
		for _, table := range p.Fleeting {
			var exists bool
			err := db.QueryRowContext(ctx, `SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = $1)`, table).Scan(&exists)
			if err != nil {
				return err
			}
			if !exists {
				continue // in this version of the schema
			}
			if _, err := db.ExecContext(ctx, `DELETE FROM `+table); err != nil { //nolint:gosec // a constant of the part
				return err
			}
		}
	}
	return db.Close()
}

// withRemedy adds the remedy to an error of the file system.
func withRemedy(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: check the free space there, that user id %d may write the directory, and that no directory has that name", err, os.Geteuid())
}

// removeCopies removes old copies of the file at path, and incomplete ones of killed
// processes. The newest copy and the last ones before it stay.
func removeCopies(path, newest string) error {
	dir := filepath.Dir(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	name := regexp.MustCompile(`^` + regexp.QuoteMeta(filepath.Base(path)) + `\.before-[1-9][0-9]*(` + regexp.QuoteMeta(partial) + `(-journal)?)?$`)
	var old []fs.FileInfo
	for _, e := range entries {
		parts := name.FindStringSubmatch(e.Name())
		if parts == nil || !e.Type().IsRegular() || e.Name() == filepath.Base(newest) {
			continue
		}
		if parts[1] != "" {
			if err := os.Remove(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
			continue
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		old = append(old, info)
	}
	slices.SortFunc(old, func(a, b fs.FileInfo) int { return b.ModTime().Compare(a.ModTime()) })
	for _, info := range old[min(len(old), keptCopies-1):] {
		if err := os.Remove(filepath.Join(dir, info.Name())); err != nil {
			return err
		}
	}
	return nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(localfile.SyncDir(d), d.Close())
}

// lockUpgrade lets one process at a time copy and migrate the SQLite file at path,
// until release is called. A killed process releases the lock.
func lockUpgrade(ctx context.Context, path string) (release func(), err error) {
	const pause = 20 * time.Millisecond
	name := path + ".upgrade"
	for {
		lock, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|localfile.NoLinkNoWait, 0o600)
		if err != nil {
			return nil, fmt.Errorf("%w: check that user id %d may write the file and the directory", err, os.Geteuid())
		}
		giveToOwner(lock, path)
		err = localfile.TryLock(lock)
		if err == nil && isFile(lock, name) {
			return func() {
				_ = os.Remove(name)        // one that stays does no harm
				_ = localfile.Unlock(lock) // a child process may have inherited the file
				lock.Close()
			}, nil
		}
		lock.Close()
		if err != nil && !errors.Is(err, localfile.ErrLocked) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the process that migrates %s: %w", path, ctx.Err())
		}
	}
}

// giveToOwner makes the owner of the database the owner of a lock file that root
// created. Otherwise the file of a killed process would exclude the owner.
func giveToOwner(lock *os.File, path string) {
	if os.Geteuid() != 0 {
		return
	}
	info, err := os.Stat(path)
	if err != nil {
		info, err = os.Stat(filepath.Dir(path))
	}
	if err != nil {
		return
	}
	_ = localfile.GiveToOwner(lock, info) // without it, root still has the lock
}

// isFile reports whether name still refers to f. The last holder of the lock may have
// removed it.
func isFile(f *os.File, name string) bool {
	mine, err1 := f.Stat()
	there, err2 := os.Lstat(name)
	return err1 == nil && err2 == nil && os.SameFile(mine, there)
}
