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
		err := newFolder(in, name)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		v, err := openVersion(in, name)
		if err != nil {
			return nil, errors.Join(err, localfile.UnlinkFolder(in, name))
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
	return nil, fmt.Errorf("%s has a folder of every name that was tried; remove those that start with %s", filepath.Clean(in.Name()), prefix)
}

func openVersion(in *os.Root, name string) (*version, error) {
	dir, err := localfile.OpenDir(in, name)
	if err != nil {
		return nil, err
	}
	return &version{Root: dir, name: name, in: in}, nil
}

// stage writes a new version, which no program reads yet, and syncs it. It also
// creates the links, or copies, that publish needs, while nothing is replaced. So a full disk
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
		if err := f.stageNames(as, v, set); err != nil {
			return err
		}
		d, err := v.Open(".")
		if err != nil {
			return err
		}
		defer d.Close()
		return errors.Join(localfile.SetMode(d, 0o755), localfile.SyncDir(d))
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

// publish makes v the current version by renaming its links, or copies, into place. If
// that fails halfway, the previous version is the current one again. The links of a first
// version are placed before current, so that all its files appear at once.
func (f *folder) publish(as resolved, v *version, previous string, set []file) error {
	steps := []func() error{
		func() error { return f.makeCurrent(v) },
		func() error { return f.placeAll(as, v, previous, set) },
	}
	if previous == "" && as.replaces == byLink {
		slices.Reverse(steps)
	}
	for _, step := range steps {
		if err := step(); err != nil {
			return err
		}
	}
	for _, name := range leftovers(f.out, set) {
		if err := localfile.Unlink(f.out, name); err != nil {
			return err
		}
	}
	return syncDir(f.out)
}

func (f *folder) makeCurrent(v *version) error {
	if err := localfile.Rename(v.Root, linkPrefix+current, f.sets, current); err != nil {
		return errors.Join(err, v.remove())
	}
	return syncDir(f.sets)
}

func (f *folder) placeAll(as resolved, v *version, previous string, set []file) error {
	for _, file := range set {
		if err := f.place(v, file.name); err != nil {
			return errors.Join(err, f.revert(as, v, previous, set))
		}
	}
	return nil
}

// revert restores the previous version as the current one, and removes the new one.
func (f *folder) revert(as resolved, v *version, previous string, set []file) error {
	if as.replaces == oneByOne {
		if err := f.restore(as, v, previous, set); err != nil {
			return err // Finish completes the new set
		}
	}
	if previous == "" {
		return errors.Join(localfile.Unlink(f.sets, current), v.remove())
	}
	if err := f.stageCurrent(as, v, previous); err != nil {
		return err
	}
	return errors.Join(localfile.Rename(v.Root, linkPrefix+current, f.sets, current), v.remove())
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
		if err := localfile.Unlink(v.Root, name); err != nil {
			return err
		}
	}
	err = localfile.UnlinkFolder(v.in, v.name)
	if errors.Is(err, localfile.ErrInUse) {
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
	link := info.Mode()&fs.ModeSymlink != 0
	switch {
	case !link && !info.Mode().IsRegular():
		return false, nil
	case !link && (name == probeName || slices.Contains(setNames, name)):
		return true, nil
	}
	return link && name == oldLink || name == linkPrefix+current ||
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
