package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// The names in the data directory, besides the admin socket.
const (
	databaseName = "acmeproxy.db"
	identityName = "identity.age"
	lockName     = "lock"
)

// openDataDir makes the directory if need be, closes it to others and locks it
// against a second proxy until unlock.
func openDataDir(dir string) (unlock func() error, err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("data-dir: cannot make %s: %w; name another with --data-dir", dir, errors.Unwrap(err))
	}
	if err := closeToOthers(dir); err != nil {
		return nil, err
	}
	// Secrets, clients, and what SQLite takes for the newest changes to them.
	for _, name := range []string{identityName, databaseName, databaseName + "-wal", databaseName + "-shm", databaseName + "-journal"} {
		if err := localfile.Check(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("data-dir: %w", err)
		}
	}
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("data-dir: cannot write to %s: %w; make it writable for this user, or name another with --data-dir", dir, errors.Unwrap(err))
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data-dir: another acmeproxy serve is running on %s; stop it first, or name another with --data-dir", dir)
	}
	return func() error {
		// Closing is not enough: a hook that is being forked has the file, too.
		return errors.Join(unix.Flock(int(lock.Fd()), unix.LOCK_UN), lock.Close())
	}, nil
}

// HoldDataDir keeps every proxy from running on a directory until release is
// called, while something works on its database. It makes and changes nothing: a
// directory that no proxy ever ran on has nothing to hold.
func HoldDataDir(dir string) (release func(), err error) {
	lock, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, os.ErrNotExist) {
		return func() {}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("data-dir: cannot lock %s: %w; run this as the user that acmeproxy serve runs as", dir, errors.Unwrap(err))
	}
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		lock.Close()
		return nil, fmt.Errorf("data-dir: acmeproxy serve is running on %s; stop it first", dir)
	}
	return func() {
		_ = unix.Flock(int(lock.Fd()), unix.LOCK_UN) // closing does it, too
		lock.Close()
	}, nil
}

// closeToOthers takes the rights of group and others away, if they have any. A
// directory in which others work, such as /tmp, is not ours to close.
func closeToOthers(dir string) error {
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("data-dir: %w", err)
	}
	if info.Mode().Perm()&0o077 == 0 {
		return nil
	}
	if info.Mode()&fs.ModeSticky != 0 || info.Mode().Perm()&0o002 != 0 {
		return fmt.Errorf("data-dir: everybody can write to %s; name a directory of its own with --data-dir, such as %s", dir, filepath.Join(dir, "acmeproxy"))
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return fmt.Errorf("data-dir: others can read %s and this user cannot change that; run chmod 700 %s", dir, dir)
	}
	return nil
}

// caRoots is the trust for the CA's API: the system's, and the files that
// LEGO_CA_CERTIFICATES lists, separated like PATH. nil means the system's.
func caRoots(getenv func(string) string) (*x509.CertPool, error) {
	const variable = "LEGO_CA_CERTIFICATES"
	list := getenv(variable)
	if list == "" {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	for _, file := range filepath.SplitList(list) {
		pem, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", variable, err)
		}
		if !pool.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s: %s holds no PEM certificate", variable, file)
		}
	}
	return pool, nil
}
