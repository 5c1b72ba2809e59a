package proxy

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Files in the data directory, in addition to the admin socket.
const (
	databaseName = "acmeproxy.db"
	identityName = "identity.age"
	lockName     = "lock"
)

// openDataDir creates the directory if necessary, removes the access of other users
// and locks the directory until unlock, so that no second proxy can use it.
func openDataDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: cannot create %s: %w; set another data-dir", dir, errors.Unwrap(err))
	}
	if err := closeToOthers(dir); err != nil {
		return nil, err
	}
	// Secrets and clients, and the files in which SQLite stores their newest changes.
	for _, name := range []string{identityName, databaseName, databaseName + "-wal", databaseName + "-shm", databaseName + "-journal"} {
		if err := localfile.Check(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("data-dir: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|localfile.NoLinkNoWait, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data-dir: cannot write to %s: %w; make it writable for this user, or set another data-dir", dir, errors.Unwrap(err))
	}
	if err := localfile.TryLock(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data-dir: another acmeproxy serve is running on %s; stop it first, or set another data-dir", dir)
	}
	return func() error {
		// Closing is not enough, because a hook that is being forked shares the file.
		return errors.Join(localfile.Unlock(lock), lock.Close())
	}, nil
}

// HoldDataDir locks a data directory until release, so that no proxy can start with
// it while a command works on its database. It creates and changes nothing. If no
// proxy ever used the directory, it succeeds without a lock.
func HoldDataDir(dir string) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|localfile.NoLinkNoWait, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data-dir: cannot lock %s: %w; run this as the user that acmeproxy serve runs as", dir, errors.Unwrap(err))
	}
	if err := localfile.TryLock(lock); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data-dir: acmeproxy serve is running on %s; stop it first", dir)
	}
	return func() {
		_ = localfile.Unlock(lock) // closing unlocks it, too
		lock.Close()
	}, nil
}

// closeToOthers removes the permissions of group and others. It refuses a shared
// directory such as /tmp.
func closeToOthers(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if info.Mode()&fs.ModeSticky != 0 || info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("data-dir: every user can write to %s; set a directory for acmeproxy alone, such as %s", dir, filepath.Join(dir, "acmeproxy"))
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("data-dir: others can read %s and this user cannot change that; run chmod 700 %s", dir, dir)
	}
	return nil
}
