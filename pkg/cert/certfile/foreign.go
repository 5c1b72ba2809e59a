package certfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// ForeignFilesError reports files of another program under the names of a set.
type ForeignFilesError struct {
	Dir   string
	Names []string
}

func (e *ForeignFilesError) Error() string {
	return fmt.Sprintf("%s has files of another program: %s", e.Dir, strings.Join(e.Names, ", "))
}

// Foreign returns the names of the set that another program has in dir.
func (l Layout) Foreign(dir string) ([]string, error) {
	out, err := localfile.OpenFolder(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer out.Close()
	return foreignIn(out, l.names())
}

// foreignIn returns those of the names that exist in out, are no links to a set, and
// are not in the current set. So a name of the current set is always ours, and Write
// fixes it if it was changed; see keepChanged.
func foreignIn(out *os.Root, names []string) ([]string, error) {
	var found []string
	for _, name := range names {
		info, err := out.Lstat(name)
		if errors.Is(err, fs.ErrNotExist) || err == nil && info.IsDir() { // vacant reports a folder
			continue
		}
		if err != nil {
			return nil, err
		}
		ours := filepath.Join(versions, current, name)
		if target, err := out.Readlink(name); err == nil && target == ours {
			continue
		}
		if _, err := out.Lstat(ours); err == nil {
			continue
		}
		if version := readPointer(out, filepath.Join(versions, current)); version != "" {
			if _, err := out.Lstat(filepath.Join(versions, version, name)); err == nil {
				continue
			}
		}
		found = append(found, name)
	}
	return found, nil
}

// maxCopies is the number of copies of one file that a day can have.
const maxCopies = 100

// keepCopies copies files of another program to names with the date. It overwrites
// nothing. A link is copied as a link, because its target does not change.
func keepCopies(out *os.Root, names []string, now time.Time, copied func(path string)) error {
	for _, name := range names {
		path, err := keepCopy(out, name, now.UTC().Format("2006-01-02"))
		if err != nil {
			return fmt.Errorf("keep a copy of %s: %w", filepath.Join(out.Name(), name), err)
		}
		if copied != nil {
			copied(path)
		}
	}
	return nil
}

// checkCopies returns an error if no copy of a foreign file could be kept, before a
// certificate is ordered.
func checkCopies(out *os.Root, names []string) error {
	found, err := foreignIn(out, names)
	for _, name := range found {
		info, statErr := out.Lstat(name)
		switch {
		case statErr != nil || info.Mode().Type() == fs.ModeSymlink:
			continue
		case !info.Mode().IsRegular():
			err = errors.Join(err, fmt.Errorf("%s is not a regular file; %w", filepath.Join(out.Name(), name), errNoCopy))
		case info.Size() > localfile.MaxSize:
			err = errors.Join(err, fmt.Errorf("%s has more than %d bytes; %w", filepath.Join(out.Name(), name), localfile.MaxSize, errNoCopy))
		}
	}
	return err
}

func keepCopy(out *os.Root, name, date string) (path string, err error) {
	target, notLink := out.Readlink(name)
	for n := 1; n <= maxCopies; n++ {
		to := fmt.Sprintf("%s.%s.bak", name, date)
		if n > 1 {
			to = fmt.Sprintf("%s.%s-%d.bak", name, date, n)
		}
		if notLink == nil {
			err = out.Symlink(target, to)
		} else {
			err = copyFile(out, name, to)
		}
		if !errors.Is(err, fs.ErrExist) {
			return filepath.Join(out.Name(), to), err
		}
	}
	return "", fmt.Errorf("%d copies exist already; move them away", maxCopies)
}

// copyFile copies a regular file. A copy of a key is readable by its owner only, and
// none has more rights than its original.
func copyFile(out *os.Root, from, to string) error {
	src, err := out.OpenFile(from, os.O_RDONLY|localfile.NoLinkNoWait, 0)
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is not a regular file; %w", errNoCopy)
	}
	data, err := io.ReadAll(io.LimitReader(src, localfile.MaxSize+1))
	if err == nil && len(data) > localfile.MaxSize {
		err = fmt.Errorf("it has more than %d bytes; %w", localfile.MaxSize, errNoCopy)
	}
	if err != nil {
		return err
	}
	mode := info.Mode().Perm() & 0o644
	if from == Key || from == HAProxy || from == PKCS12 {
		mode = 0o600
	}
	as := resolved{uid: -1, gid: -1}
	return as.writeFile(out, file{name: to, data: data, mode: mode})
}
