package certfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// versionTime is the format of a version's name, the time from which it is valid.
// Folders with names of any other form are not pruned.
const versionTime = "20060102T150405"

var versionName = regexp.MustCompile(`^[0-9]{8}T[0-9]{6}-[0-9]{1,10}$`)

// version holds the folder of one set. It is opened when it is created, because its
// name may lead to another folder later. The owner of the folder above may rename
// both.
type version struct {
	*os.Root
	name string
	in   *os.Root // the parent folder
}

// newVersion creates a folder with a new name and opens it.
func newVersion(in *os.Root, prefix string) (*version, error) {
	for range 10 {
		name := fmt.Sprintf("%s-%d", prefix, rand.Uint32())
		err := in.Mkdir(name, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		v, err := openVersion(in, name)
		if err != nil {
			return nil, errors.Join(err, unlinkAt(in, name, unix.AT_REMOVEDIR))
		}
		names, err := namesIn(v.Root, 1)
		if err == nil && len(names) > 0 {
			err = fmt.Errorf("%s was replaced while it was created", filepath.Join(in.Name(), name))
		}
		if err != nil {
			return nil, errors.Join(err, v.Close())
		}
		return v, nil
	}
	return nil, fmt.Errorf("%s has a folder of every name that was tried; remove those that start with %s", in.Name(), prefix)
}

func openVersion(in *os.Root, name string) (*version, error) {
	dir, err := localfile.OpenDir(in, name)
	if err != nil {
		return nil, err
	}
	return &version{Root: dir, name: name, in: in}, nil
}

// stage writes a new version, which no program reads yet, and syncs it. It also
// creates the links that publish needs, while nothing is replaced. So a full disk
// is detected here. If stage fails, it leaves no files.
func (f *folder) stage(as resolved, set []file, prefix string) (*version, error) {
	v, err := newVersion(f.sets, prefix)
	if err != nil {
		return nil, err
	}
	fill := func() error {
		for _, file := range set {
			if err := as.writeFile(v.Root, file); err != nil {
				return err
			}
		}
		for link, target := range f.links(v.name, set) {
			if err := v.Symlink(target, linkPrefix+link); err != nil {
				return err
			}
		}
		d, err := v.Open(".")
		if err != nil {
			return err
		}
		defer d.Close()
		return errors.Join(d.Chmod(0o755), d.Sync())
	}
	if err := fill(); err != nil {
		return nil, errors.Join(err, v.remove(), v.Close())
	}
	return v, nil
}

// Names of links in a version that are about to be renamed into place. Earlier
// releases used oldLink for all of them.
const (
	linkPrefix = "link-"
	oldLink    = "link"
)

// links returns the links that are missing for a version to be the current one, by
// name, with their targets. All but current belong in the output folder.
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

// publish makes v the current version by renaming its links into place. If that fails
// halfway, the previous version is the current one again.
func (f *folder) publish(v *version, previous string, set []file) error {
	if err := rename(v.Root, linkPrefix+current, f.sets, current); err != nil {
		return errors.Join(err, v.remove())
	}
	if err := syncDir(f.sets); err != nil {
		return err
	}
	for _, file := range set {
		if _, err := v.Lstat(linkPrefix + file.name); errors.Is(err, fs.ErrNotExist) {
			continue // in place since an earlier set
		}
		if err := rename(v.Root, linkPrefix+file.name, f.out, file.name); err != nil {
			return errors.Join(err, f.revert(v, previous))
		}
	}
	for _, name := range leftovers(f.out, set) {
		if err := unlinkAt(f.out, name, 0); err != nil {
			return err
		}
	}
	return syncDir(f.out)
}

// revert restores the previous version as the current one, and removes the new one.
func (f *folder) revert(v *version, previous string) error {
	if previous == "" {
		return errors.Join(unlinkAt(f.sets, current, 0), v.remove())
	}
	if err := v.Symlink(previous, linkPrefix+current); err != nil {
		return err
	}
	return errors.Join(rename(v.Root, linkPrefix+current, f.sets, current), v.remove())
}

// maxListed limits the number of names that prune reads. Usually four exist, in
// addition to those left by crashes. The owner of the folder may create any number.
const maxListed = 4096

// prune removes all versions except the current one and the previous one, which a
// service may be reading. It removes older ones and incomplete ones from a crash.
func (f *folder) prune(version, previous string) error {
	names, err := namesIn(f.sets, maxListed)
	if err != nil {
		return err
	}
	for _, name := range names {
		if name == version || name == previous || !versionName.MatchString(name) {
			continue
		}
		if err := f.pruneOne(name); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) pruneOne(name string) error {
	info, err := f.sets.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !info.IsDir() {
		return nil
	}
	if err != nil {
		return err
	}
	v, err := openVersion(f.sets, name)
	if err != nil {
		return err
	}
	defer v.Close()
	return v.remove()
}

// setNames lists all file names that a set can have.
var setNames = []string{Key, Cert, Chain, Fullchain, HAProxy, PKCS12}

// remove removes the files of a version and then its folder. A folder with any
// other content is not changed. The owner of the folder above can give any folder
// of root's the name of a version, but cannot make remove empty it.
func (v *version) remove() error {
	names, err := namesIn(v.Root, 2*len(setNames)+3) // one more than a version can have
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another probe removed this one
	}
	if err != nil {
		return err
	}
	for _, name := range names {
		if own, err := v.writes(name); err != nil || !own {
			return err
		}
	}
	for _, name := range names {
		if err := unlinkAt(v.Root, name, 0); err != nil {
			return err
		}
	}
	err = unlinkAt(v.in, v.name, unix.AT_REMOVEDIR)
	if errors.Is(err, unix.ENOTEMPTY) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.EBUSY) {
		return nil // another folder has the name now
	}
	return err
}

// writes reports whether stage, probe or an earlier release writes a file of this
// name.
func (v *version) writes(name string) (bool, error) {
	info, err := v.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // it is removed already
	}
	if err != nil {
		return false, err
	}
	switch {
	case info.Mode().IsRegular():
		return name == probeName || slices.Contains(setNames, name), nil
	case info.Mode()&fs.ModeSymlink == 0:
		return false, nil
	}
	return name == oldLink || name == linkPrefix+current ||
		slices.ContainsFunc(setNames, func(s string) bool { return name == linkPrefix+s }), nil
}

// namesIn returns the first names in a folder, at most limit.
func namesIn(dir *os.Root, limit int) ([]string, error) {
	d, err := dir.Open(".")
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(limit)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}

// unlinkAt removes a file or link or, with unix.AT_REMOVEDIR, an empty folder. It
// removes nothing of another kind. A missing name is not an error.
func unlinkAt(dir *os.Root, name string, flags int) error {
	d, err := dir.Open(".")
	if err != nil {
		return err
	}
	defer d.Close()
	if err := unix.Unlinkat(int(d.Fd()), name, flags); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &os.PathError{Op: "remove", Path: filepath.Join(dir.Name(), name), Err: err}
	}
	return nil
}
