package certfile

import (
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/windows"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Changing links would need a privilege here, so the files are replaced one by one.
const systemReplaces = oneByOne

// checkPermissions returns an error for each setting that this system does not have.
func checkPermissions(l Layout) []error {
	var faults []error
	if l.Owner != "" {
		faults = append(faults, errors.New("owner: Windows has access lists instead; remove this setting, and run icacls in the hook"))
	}
	if l.KeyMode != "" {
		faults = append(faults, errors.New("key-mode: Windows has access lists instead; remove this setting, and run icacls in the hook"))
	}
	return faults
}

// isWritable returns an error unless this user may create files in a folder. Access
// lists have too many rules to predict that, so it creates and removes one.
func isWritable(path string) error {
	f, err := os.CreateTemp(path, versions+"-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// hasSpace returns an error unless the disk has room for a set.
func hasSpace(path string) error {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return err
	}
	var free uint64
	if err := windows.GetDiskFreeSpaceEx(name, &free, nil, nil); err != nil {
		return nil //nolint:nilerr // the free space is unknown, so try to write
	}
	if free < neededBytes {
		return fmt.Errorf("%w: %d KiB are needed; free some", windows.ERROR_DISK_FULL, neededBytes>>10)
	}
	return nil
}

func chown(*os.File, int, int) error { return nil } // checkPermissions refuses an owner

// isMountPoint reports whether a name in an open folder is a mount point. Lstat shows
// one as a link here, and a rename does not follow it.
func isMountPoint(*os.File, string) bool { return false }

func (r resolved) hasPermissions(string, fs.FileMode) bool { return true }

// newFolder creates a private folder, so that the files in it are private.
func newFolder(in *os.Root, name string) error { return localfile.NewPrivate(in, name) }
