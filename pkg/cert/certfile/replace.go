package certfile

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// replacement is the way in which the files of a set replace the previous ones.
type replacement int

const (
	byLink   replacement = iota // all at once: the names are links through one link
	oneByOne                    // copies, the key first; current is a file with the version's name
)

// stageNames creates in v what publish moves into place.
func (f *folder) stageNames(as resolved, v *version, set []file) error {
	if as.replaces == oneByOne {
		for _, file := range set {
			file.name = linkPrefix + file.name
			if err := as.writeFile(v.Root, file); err != nil {
				return err
			}
		}
		return as.writeFile(v.Root, pointer(v.name))
	}
	for link, target := range f.links(v.name, set) {
		if err := v.Symlink(target, linkPrefix+link); err != nil {
			return err
		}
	}
	return nil
}

// stageCurrent creates in v a link, or a file, that makes a version the current one.
func (f *folder) stageCurrent(as resolved, v *version, name string) error {
	if as.replaces == oneByOne {
		return as.writeFile(v.Root, pointer(name))
	}
	return v.Symlink(name, linkPrefix+current)
}

// pointer returns the file that names the current version, where links are not used.
func pointer(version string) file {
	return file{name: linkPrefix + current, data: []byte(version + "\n"), mode: 0o644}
}

// maxPointer is more than the length of a version's name, in bytes.
const maxPointer = 64

// readPointer returns the version that a file names, or an empty string. The folder's
// owner may have written any other text there.
func readPointer(dir *os.Root, name string) string {
	if info, err := dir.Lstat(name); err != nil || !info.Mode().IsRegular() {
		return ""
	}
	text, err := readIn(dir, name, maxPointer)
	if err != nil {
		return ""
	}
	version := string(bytes.TrimSpace(text))
	if !versionName.MatchString(version) {
		return ""
	}
	return version
}

// readIn returns at most limit bytes of a regular file in an opened folder.
func readIn(dir *os.Root, name string, limit int64) ([]byte, error) {
	f, err := dir.OpenFile(name, os.O_RDONLY|localfile.NoLinkNoWait, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// unfinished returns the folder of the complete set of dir, if its files are replaced
// one by one. A crash between two of them leaves the files of two sets.
func unfinished(dir string) (path string, ok bool) {
	out, err := localfile.OpenRoot(dir)
	if err != nil {
		return "", false
	}
	defer out.Close()
	version := readPointer(out, filepath.Join(versions, current))
	return filepath.Join(dir, versions, version), version != ""
}

// Finish completes a replacement that a crash interrupted between two files. It needs
// no certificate and changes nothing in any other folder. Call it when a daemon starts.
func Finish(ctx context.Context, dir string) error {
	dir = filepath.Clean(dir)
	if path, ok := unfinished(dir); !ok || !anyStaged(path) {
		return nil
	}
	f, err := openFolder(ctx, dir)
	if err != nil {
		return err
	}
	defer f.close()
	name := readPointer(f.sets, current)
	if name == "" {
		return nil
	}
	v, err := openVersion(f.sets, name)
	if err != nil {
		return err
	}
	defer v.Close()
	for _, name := range setNames {
		if err := f.place(v, name); err != nil {
			return err
		}
	}
	return syncDir(f.out)
}

// anyStaged reports whether a version has files that were not moved into place.
func anyStaged(path string) bool {
	for _, name := range setNames {
		if _, err := os.Lstat(filepath.Join(path, linkPrefix+name)); err == nil {
			return true
		}
	}
	return false
}

// place moves one staged name of a version into the output folder, if it is there.
func (f *folder) place(v *version, name string) error {
	if _, err := v.Lstat(linkPrefix + name); errors.Is(err, fs.ErrNotExist) {
		return nil // in place already
	}
	return localfile.Rename(v.Root, linkPrefix+name, f.out, name)
}

// restore puts the files of the previous version back, after a replacement one by one
// failed. Without a previous version, it removes those of the new one.
func (f *folder) restore(as resolved, v *version, previous string, set []file) error {
	for _, file := range set {
		switch _, err := v.Lstat(linkPrefix + file.name); {
		case err == nil: // it was not replaced
			if err := localfile.Unlink(v.Root, linkPrefix+file.name); err != nil {
				return err
			}
			continue
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
		if err := f.restoreOne(as, v, previous, file); err != nil {
			return err
		}
	}
	return nil
}

func (f *folder) restoreOne(as resolved, v *version, previous string, file file) error {
	if previous == "" {
		return localfile.Unlink(f.out, file.name)
	}
	data, err := readIn(f.sets, filepath.Join(previous, file.name), localfile.MaxSize)
	if errors.Is(err, fs.ErrNotExist) {
		return localfile.Unlink(f.out, file.name)
	}
	if err != nil {
		return err
	}
	name := file.name
	file.name, file.data = linkPrefix+name, data
	if err := as.writeFile(v.Root, file); err != nil {
		return err
	}
	return f.place(v, name)
}

// maxCompared is the number of versions that isCopy compares with. Usually two exist. The
// folder's owner may create any number.
const maxCompared = 3

// isCopy reports whether a file in an output folder is a copy of a set's, where the
// files are replaced one by one.
func isCopy(out *os.Root, name string) bool {
	if readPointer(out, filepath.Join(versions, current)) == "" {
		return false
	}
	data, err := readIn(out, name, localfile.MaxSize)
	if err != nil {
		return false
	}
	sets, err := localfile.OpenDir(out, versions)
	if err != nil {
		return false
	}
	defer sets.Close()
	names, err := namesIn(sets, maxListed)
	if err != nil {
		return false
	}
	slices.Sort(names) // by time
	compared := 0
	for _, version := range slices.Backward(names) {
		path := filepath.Join(version, name)
		if info, err := sets.Lstat(path); !versionName.MatchString(version) || err != nil || info.Size() != int64(len(data)) {
			continue
		}
		if compared++; compared > maxCompared {
			return false
		}
		if have, err := readIn(sets, path, localfile.MaxSize); err == nil && bytes.Equal(have, data) {
			return true
		}
	}
	return false
}
