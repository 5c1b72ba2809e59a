// Package certfile keeps a bundle in a folder under certbot's file names:
// cert.pem, chain.pem, fullchain.pem and privkey.pem, and where a Layout says
// so haproxy.pem and bundle.p12.
//
//	err := certfile.Write("/etc/ssl/web1", bundle)
//	err := certfile.Layout{Formats: []string{"haproxy"}, Owner: "haproxy"}.Write("/etc/ssl/web1", bundle)
//
// All files change at once: they are symbolic links through one link,
// .acmeproxy/current, which is replaced by a rename. The disk has the old set
// or the new one, also after a crash, and so has a reader that resolves
// .acmeproxy/current once. One that opens two of the names may see the swap
// happen in between; the hook that tells it to reload comes after. What has the
// key has mode 0600 or the layout's, whatever the umask.
package certfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// The file names of a set.
const (
	Cert      = "cert.pem"
	Chain     = "chain.pem"
	Fullchain = "fullchain.pem"
	Key       = "privkey.pem"
	HAProxy   = "haproxy.pem" // full chain and key, for its crt keyword
	PKCS12    = "bundle.p12"  // key and full chain under a password (RFC 7292)
)

const (
	versions = ".acmeproxy" // in the set's folder
	current  = "current"    // in versions, a link to the version in use
	lockName = "lock"       // in versions, held while a set is written
)

// Write installs the bundle in the zero Layout.
func Write(dir string, b *cert.Bundle) error { return Layout{}.Write(dir, b) }

// Write installs the bundle in dir, which is made (mode 0755) if need be. The
// set that was there stays until the new one is whole; regular files and links
// of the set's names are replaced, never written through. Several processes may
// write at a time: the last one counts. A bundle that has no key is an error: a
// set without one serves nobody.
func (l Layout) Write(dir string, b *cert.Bundle) error {
	as, err := l.resolve()
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	set, err := as.files(b)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	dir = filepath.Clean(dir)
	if err := makeFolders(dir); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	unlock, err := lock(dir)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	defer unlock()
	previous := inUse(dir)
	version, err := as.stage(dir, b, set)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := publish(dir, version, set); err != nil {
		return fmt.Errorf("publish the certificate: %w", err)
	}
	if err := prune(dir, filepath.Base(version), previous); err != nil {
		return fmt.Errorf("remove old certificates: %w", err)
	}
	return nil
}

// Writable tells whether a set could be written to dir, or to the nearest folder
// above it that there is. It makes nothing.
func Writable(dir string) error {
	path := filepath.Join(dir, versions)
	info, err := os.Stat(path)
	for (errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)) && path != filepath.Dir(path) {
		path = filepath.Dir(path)
		info, err = os.Stat(path)
	}
	switch {
	case err != nil:
	case !info.IsDir():
		err = unix.ENOTDIR
	default:
		err = unix.Faccessat(unix.AT_FDCWD, path, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	}
	if cause := (*fs.PathError)(nil); errors.As(err, &cause) {
		err = cause.Err
	}
	if err != nil {
		return fmt.Errorf("cannot write to %s: %w", path, err)
	}
	return nil
}

// makeFolders makes dir and the folder of versions in it. Others than root must
// reach the certificates, whatever the umask; the key has its own mode.
func makeFolders(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	for _, path := range []string{dir, filepath.Join(dir, versions)} {
		err := os.Mkdir(path, 0o755)
		if err == nil {
			err = os.Chmod(path, 0o755)
		}
		if err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	info, err := os.Lstat(filepath.Join(dir, versions))
	if err == nil && !info.IsDir() { // a link here would take the keys elsewhere
		err = fmt.Errorf("%s is not a folder; remove it", filepath.Join(dir, versions))
	}
	return err
}

// lock keeps other processes from writing to dir, and from pruning what is
// being written, until unlock.
func lock(dir string) (unlock func(), err error) {
	f, err := os.OpenFile(filepath.Join(dir, versions, lockName), os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	for err = unix.EINTR; errors.Is(err, unix.EINTR); {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return func() { f.Close() }, nil
}

// inUse is the name of the current version; empty if there is none.
func inUse(dir string) string {
	name, err := os.Readlink(filepath.Join(dir, versions, current))
	if err != nil {
		return ""
	}
	return name
}

// stage writes a new version, which nobody reads yet, and has it on the disk.
func (r resolved) stage(dir string, b *cert.Bundle, set []file) (version string, err error) {
	version, err = os.MkdirTemp(filepath.Join(dir, versions), b.Leaf.NotBefore.UTC().Format("20060102T150405-"))
	if err != nil {
		return "", err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(version))
		}
	}()
	for _, f := range set {
		if err := r.writeFile(filepath.Join(version, f.name), f); err != nil {
			return "", err
		}
	}
	if err := os.Chmod(version, 0o755); err != nil {
		return "", err
	}
	return version, syncDir(version)
}

// writeFile makes a new file and has it on the disk before it returns.
func (r resolved) writeFile(path string, f file) error {
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	if r.uid >= 0 || r.gid >= 0 {
		if err := out.Chown(r.uid, r.gid); err != nil {
			return fmt.Errorf("owner: %w; run acmeproxy as root, or take a group that it is a member of", err)
		}
	}
	if err := out.Chmod(f.mode); err != nil { // whatever the umask
		return err
	}
	if _, err := out.Write(f.data); err != nil {
		return err
	}
	if err := out.Sync(); err != nil {
		return err
	}
	return out.Close()
}

// publish makes version the current one.
func publish(dir, version string, set []file) error {
	swap := filepath.Join(dir, versions, current)
	if err := link(version, filepath.Base(version), swap); err != nil {
		return errors.Join(err, os.RemoveAll(version))
	}
	if err := syncDir(filepath.Dir(swap)); err != nil {
		return err
	}
	for _, f := range set {
		target := filepath.Join(versions, current, f.name)
		path := filepath.Join(dir, f.name)
		if got, err := os.Readlink(path); err == nil && got == target {
			continue
		}
		if err := link(version, target, path); err != nil {
			return err
		}
	}
	for _, path := range leftovers(dir, set) {
		if err := os.Remove(path); err != nil {
			return err
		}
	}
	return syncDir(dir)
}

// link makes path a link to target, whatever link or file it was, by a rename.
// The new link is made in scratch, where prune finds it after a crash.
func link(scratch, target, path string) error {
	made := filepath.Join(scratch, "link")
	if err := os.Symlink(target, made); err != nil {
		return err
	}
	if err := os.Rename(made, path); err != nil {
		return errors.Join(err, os.Remove(made))
	}
	return nil
}

// prune removes all versions but the current one and the previous one, which a
// service may be reading: older ones, and what a crash left half written.
func prune(dir, version, previous string) error {
	entries, err := os.ReadDir(filepath.Join(dir, versions))
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == version || e.Name() == previous {
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, versions, e.Name())); err != nil {
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
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Read loads the set in dir, as those see it who use its PEM names; it is
// never of two sets. fs.ErrNotExist means that a file is missing; any other
// error that the files do not belong together.
func Read(dir string) (*cert.Bundle, error) {
	for {
		before := inUse(dir)
		b, err := read(dir)
		if inUse(dir) != before {
			continue // the set was swapped while it was read
		}
		if err != nil {
			return nil, fmt.Errorf("read the certificate in %s: %w", dir, err)
		}
		return b, nil
	}
}

func read(dir string) (*cert.Bundle, error) {
	files := map[string][]byte{}
	for _, name := range []string{Key, Cert, Chain, Fullchain} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files[name] = data
	}
	b, err := cert.ParseBundle(slices.Concat(files[Key], []byte("\n"), files[Fullchain]))
	if err != nil {
		return nil, err
	}
	if b.Key == nil {
		return nil, fmt.Errorf("%s has no key", Key)
	}
	if !bytes.Equal(files[Cert], b.LeafPEM()) || !bytes.Equal(files[Chain], b.ChainPEM()) {
		return nil, fmt.Errorf("%s and %s are not what %s has", Cert, Chain, Fullchain)
	}
	return b, nil
}
