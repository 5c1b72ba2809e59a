package certfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// maxKept is the number of copies of one file that are kept without Force. The folder's
// owner, or a program that writes there all the time, must not fill the disk. Then the
// file is replaced without a copy, because a certificate must not expire for that.
const maxKept = 5

// keepChanged copies the files that another program or the administrator has put in the
// place of ours, before they are replaced. A content that has a copy already gets no
// other one, so a loop keeps one copy.
func (f *folder) keepChanged(names []string, now time.Time, copied func(path string)) error {
	for _, name := range names {
		if f.isOurs(name) {
			continue
		}
		kept, ok := f.copies(name)
		if !ok || len(kept) >= maxKept || slices.ContainsFunc(kept, func(have string) bool { return f.isEqual(name, have) }) {
			continue
		}
		path, err := keepCopy(f.out, name, now.UTC().Format("2006-01-02"))
		if errors.Is(err, errNoCopy) || errors.Is(err, fs.ErrNotExist) {
			continue // a pipe, or it is gone
		}
		if err != nil {
			return fmt.Errorf("keep a copy of %s: %w", filepath.Join(f.out.Name(), name), err)
		}
		if copied != nil {
			copied(path)
		}
	}
	return nil
}

// isOurs reports whether a name is missing, is a link to the current set, or has the
// content of one of our sets. A backup that was restored may have files instead of links.
func (f *folder) isOurs(name string) bool {
	info, err := f.out.Lstat(name)
	if err != nil || info.IsDir() {
		return true
	}
	if target, err := f.out.Readlink(name); err == nil {
		return target == filepath.Join(versions, current, name)
	}
	data, err := readIn(f.out, name, localfile.MaxSize)
	if err != nil {
		return false
	}
	names, _ := namesIn(f.sets, maxListed)
	left := 2 * maxKept // usually there are two; the folder's owner may create any number
	for _, version := range append([]string{f.inUse()}, names...) {
		if !versionName.MatchString(version) || left == 0 {
			continue
		}
		left--
		if have, err := readIn(f.sets, filepath.Join(version, name), localfile.MaxSize); err == nil && bytes.Equal(have, data) {
			return true
		}
	}
	return false
}

// copies returns the names of all copies of a file, or false if there are too many files.
func (f *folder) copies(name string) (found []string, ok bool) {
	names, err := namesIn(f.out, maxListed)
	if err != nil || len(names) == maxListed {
		return nil, false
	}
	for _, n := range names {
		if strings.HasPrefix(n, name+".") && strings.HasSuffix(n, ".bak") {
			found = append(found, n)
		}
	}
	return found, true
}

// isEqual reports whether two names in the output folder are links with one target, or
// files with one content.
func (f *folder) isEqual(a, b string) bool {
	target, err := f.out.Readlink(a)
	if other, otherErr := f.out.Readlink(b); err == nil || otherErr == nil {
		return err == nil && otherErr == nil && target == other
	}
	data, err := readIn(f.out, a, localfile.MaxSize+1)
	if err != nil {
		return false
	}
	other, err := readIn(f.out, b, localfile.MaxSize+1)
	return err == nil && bytes.Equal(data, other)
}

// errNoCopy is the error of copyFile for a file that is never copied.
var errNoCopy = errors.New("move it away")
