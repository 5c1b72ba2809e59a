package localfile

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/windows"
)

// Owner is the owner of a file: here a security identifier, as text.
type Owner = string

// Words of messages.
const (
	administrator = "SYSTEM, Administrators"
	takeOwnership = "run takeown /F on it"
)

// Identifiers that administer every Windows host.
const (
	system           = "S-1-5-18"
	administrators   = "S-1-5-32-544"
	everyone         = "S-1-1-0"
	trustedInstaller = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
)

// relyOnFolders would mean that an untrusted user's own folder may have the user's
// files. Here every user may create the folders that this program uses by default.
const relyOnFolders = false

// isTrusted reports whether this process can rely on files of this owner.
func isTrusted(owner Owner) bool {
	if slices.Contains([]string{system, administrators, trustedInstaller}, owner) {
		return true
	}
	me, err := currentUser()
	return err == nil && owner == me
}

func currentUser() (Owner, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return "", err
	}
	return user.User.Sid.String(), nil
}

func ownerOf(f *os.File) (Owner, error) {
	sd, err := windows.GetSecurityInfo(windows.Handle(f.Fd()), windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	return ownerIs(sd, err)
}

func ownerIs(sd *windows.SECURITY_DESCRIPTOR, err error) (Owner, error) {
	if err != nil {
		return "", err
	}
	sid, _, err := sd.Owner()
	if err != nil {
		return "", err
	}
	return sid.String(), nil
}

func ownerAt(path string, follow bool) (Owner, error) {
	f, err := open(path, windows.READ_CONTROL, follow)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return ownerOf(f)
}

func ownerIn(dir *os.Root, name string) (Owner, error) {
	return ownerAt(filepath.Join(dir.Name(), name), false)
}

// userName returns the name of a user for a message.
func userName(owner Owner) string {
	if sid, err := windows.StringToSid(owner); err == nil {
		if name, domain, _, err := sid.LookupAccount(""); err == nil {
			return domain + `\` + name
		}
	}
	return "user " + owner
}

// NoLinkNoWait are flags for os.OpenFile. Windows has no such flags, and no named
// pipes among its files.
const NoLinkNoWait = 0

const noWait = 0

// openNoLink opens a file for reading. It returns errLink for a symbolic link.
func openNoLink(path string) (*os.File, error) {
	f, err := open(path, windows.GENERIC_READ, false)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Mode()&(os.ModeSymlink|os.ModeIrregular) != 0 {
		err = errLink
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// open opens a file or folder, and the link itself unless follow is set.
func open(path string, access uint32, follow bool) (*os.File, error) {
	name, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	flags := uint32(windows.FILE_FLAG_BACKUP_SEMANTICS) // also folders
	if !follow {
		flags |= windows.FILE_FLAG_OPEN_REPARSE_POINT
	}
	const share = windows.FILE_SHARE_READ | windows.FILE_SHARE_WRITE | windows.FILE_SHARE_DELETE
	h, err := windows.CreateFile(name, access, share, nil, windows.OPEN_EXISTING, flags, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(h), path), nil
}

// OpenFolder opens the folder at path. It follows links and junctions on the way,
// because they are the administrator's choice, with one exception: a link of an
// untrusted user must lead to a folder of that user.
func OpenFolder(path string) (*os.Root, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	d, err := root.Open(".")
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	defer d.Close()
	found, err := ownerOf(d)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	if err := checkLinks(path, found); err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// checkLinks returns an error for a link of an untrusted user that leads to a folder of
// the owner.
func checkLinks(path string, found Owner) error {
	for _, above := range parts(path) {
		info, err := os.Lstat(above)
		if err != nil {
			return err
		}
		if info.Mode()&(os.ModeSymlink|os.ModeIrregular) == 0 {
			continue
		}
		owner, err := ownerAt(above, false)
		if err != nil {
			return err
		}
		if !isTrusted(owner) && owner != found {
			return untrustedLink{fmt.Errorf("%s is a link of %s that leads to a folder of %s; remove the link, or use the path of the folder",
				above, userName(owner), userName(found))}
		}
	}
	return nil
}

// follow returns the path of an existing object without links. It returns an
// untrustedLink if OpenFolder does.
func follow(path string) (string, error) {
	found, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", err
	}
	owner, err := ownerAt(found, false)
	if err != nil {
		return "", err
	}
	return found, checkLinks(path, owner)
}

// parts returns the folders of a path, from the volume down.
func parts(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	var all []string
	for path != filepath.Dir(path) {
		all = append(all, path)
		path = filepath.Dir(path)
	}
	slices.Reverse(all)
	return all
}

// Risk describes the first folder or link in path that an untrusted user owns, with
// the remedy. It returns "" if there is no such object. Missing objects are no risk.
// It does not read access lists.
func Risk(path string) string {
	for _, above := range parts(path) {
		owner, err := ownerAt(above, false)
		if err != nil {
			return ""
		}
		if isTrusted(owner) {
			continue
		}
		who := userName(owner)
		return fmt.Sprintf("%s belongs to %s, who can replace everything in it; use a folder of Administrators, or run this as %s",
			above, who, strings.TrimPrefix(who, `\`))
	}
	return ""
}
