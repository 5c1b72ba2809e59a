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
//
// The folder may belong to another user, such as a service's. That user can
// replace the set, but cannot make root write or remove anything elsewhere.
package certfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
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

// Write installs the bundle in dir, which is created (mode 0755) if necessary. The
// set that was there stays until the new one is whole. Regular files and links of
// the set's names are replaced, never written through; a folder of such a name is
// an error that changes nothing. Several processes may write at a time: the last
// one counts. A bundle without a key is an error: no server could use the set.
func (l Layout) Write(dir string, b *cert.Bundle) error {
	as, err := l.resolve()
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	set, err := as.files(b)
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	f, err := openFolder(filepath.Clean(dir))
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	defer f.close()
	if err := vacant(f.out, namesOf(set)); err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	previous := f.inUse()
	version, err := f.stage(as, set, b.Leaf.NotBefore.UTC().Format(versionTime))
	if err != nil {
		return fmt.Errorf("write the certificate: %w", err)
	}
	if err := f.publish(version, previous, set); err != nil {
		return fmt.Errorf("publish the certificate: %w", err)
	}
	if err := f.prune(version, previous); err != nil {
		return fmt.Errorf("remove old certificates: %w", err)
	}
	return nil
}

// A version is called by the time from which it is valid. Names of no other form
// are pruned.
const versionTime = "20060102T150405"

var versionName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}-[0-9]{1,10}$`)

// newVersion creates a folder with a new name and opens it.
func (f *folder) newVersion(prefix string) (string, *os.Root, error) {
	for {
		name := fmt.Sprintf("%s-%d", prefix, rand.Uint32())
		err := f.sets.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		dir, err := localfile.OpenDir(f.sets, name)
		if err != nil {
			return "", nil, errors.Join(err, f.sets.RemoveAll(name))
		}
		return name, dir, nil
	}
}

// stage writes a new version, which no program reads yet, and syncs it. The links
// that publish needs are created here as well, while nothing is replaced: this is
// where a full disk shows. If it fails, nothing stays.
func (f *folder) stage(as resolved, set []file, prefix string) (string, error) {
	name, version, err := f.newVersion(prefix)
	if err != nil {
		return "", err
	}
	defer version.Close()
	fill := func() error {
		for _, file := range set {
			if err := as.writeFile(version, file); err != nil {
				return err
			}
		}
		for link, target := range f.links(name, set) {
			if err := version.Symlink(target, linkPrefix+link); err != nil {
				return err
			}
		}
		d, err := version.Open(".")
		if err != nil {
			return err
		}
		defer d.Close()
		return errors.Join(d.Chmod(0o755), d.Sync())
	}
	if err := fill(); err != nil {
		return "", errors.Join(err, f.sets.RemoveAll(name))
	}
	return name, nil
}

// linkPrefix is of links in a version that are about to be renamed into place.
const linkPrefix = "link-"

// links returns the links that lack for a version to be the current one, by name,
// and their targets. All but current belong into the output folder.
func (f *folder) links(version string, set []file) map[string]string {
	all := map[string]string{current: version}
	for _, file := range set {
		target := filepath.Join(versions, current, file.name)
		if got, err := f.out.Readlink(file.name); err != nil || got != target {
			all[file.name] = target
		}
	}
	return all
}

// writeFile creates a file and syncs it before it returns.
func (r resolved) writeFile(dir *os.Root, f file) error {
	out, err := dir.OpenFile(f.name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
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

// publish makes version the current one by renaming its links into place. If that
// fails halfway, the previous version is the current one again.
func (f *folder) publish(name, previous string, set []file) error {
	version, err := localfile.OpenDir(f.sets, name)
	if err != nil {
		return errors.Join(err, f.sets.RemoveAll(name))
	}
	defer version.Close()
	if err := rename(version, linkPrefix+current, f.sets, current); err != nil {
		return errors.Join(err, f.sets.RemoveAll(name))
	}
	if err := syncDir(f.sets); err != nil {
		return err
	}
	for _, file := range set {
		if _, err := version.Lstat(linkPrefix + file.name); errors.Is(err, fs.ErrNotExist) {
			continue // it is in place since an earlier set
		}
		if err := rename(version, linkPrefix+file.name, f.out, file.name); err != nil {
			return errors.Join(err, f.revert(version, name, previous))
		}
	}
	for _, name := range leftovers(f.out, set) {
		if err := f.out.Remove(name); err != nil {
			return err
		}
	}
	return syncDir(f.out)
}

// revert makes the previous version the current one, and removes the new one.
func (f *folder) revert(version *os.Root, name, previous string) error {
	if previous == "" {
		return errors.Join(f.sets.Remove(current), f.sets.RemoveAll(name))
	}
	if err := version.Symlink(previous, linkPrefix+current); err != nil {
		return err
	}
	return errors.Join(rename(version, linkPrefix+current, f.sets, current), f.sets.RemoveAll(name))
}

// prune removes all versions but the current one and the previous one, which a
// service may be reading: older ones, and what a crash left half written. Only
// folders with names of our own form are ours to remove.
func (f *folder) prune(version, previous string) error {
	entries, err := fs.ReadDir(f.sets.FS(), ".")
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() || e.Name() == version || e.Name() == previous || !versionName.MatchString(e.Name()) {
			continue
		}
		if err := f.sets.RemoveAll(e.Name()); err != nil {
			return err
		}
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

// inUse returns the name of the current version; empty if there is none.
func inUse(dir string) string {
	name, err := os.Readlink(filepath.Join(dir, versions, current))
	if err != nil {
		return ""
	}
	return name
}

func read(dir string) (*cert.Bundle, error) {
	files := map[string][]byte{}
	for _, name := range []string{Key, Cert, Chain, Fullchain} {
		data, err := localfile.ReadAny(filepath.Join(dir, name))
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
