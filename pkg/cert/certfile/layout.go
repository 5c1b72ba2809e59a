package certfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// Formats that a set can have in addition to the PEM files.
const (
	FormatPEM     = "pem"     // always included; may be named
	FormatHAProxy = "haproxy" // HAProxy
	FormatPKCS12  = "pkcs12"  // PKCS12
)

// Layout describes the files of a set and their permissions. The zero value has the
// PEM files only, owned by this process, the key with mode 0600.
type Layout struct {
	Formats            []string `json:"formats,omitempty" yaml:"format" want:"haproxy or pkcs12"`                 // FormatPEM and the like; commas may join several
	PKCS12PasswordFile string   `json:"pkcs12_password_file,omitempty" yaml:"pkcs12-password-file" config:"path"` // its first line; FormatPKCS12 needs it
	Owner              string   `json:"owner,omitempty" yaml:"owner"`                                             // user, user:group or :group, by name or number
	KeyMode            string   `json:"key_mode,omitempty" yaml:"key-mode"`                                       // octal, of each file that has the key
}

// Validate returns an error that reports every fault, each with the name of its
// field. It checks l alone.
func (l Layout) Validate() error {
	var faults []error
	for _, f := range l.formats() {
		if !slices.Contains([]string{FormatPEM, FormatHAProxy, FormatPKCS12}, f) {
			faults = append(faults, fmt.Errorf("format: %q is unknown; use pem, haproxy or pkcs12, joined by commas", f))
		}
	}
	if l.has(FormatPKCS12) && l.PKCS12PasswordFile == "" {
		faults = append(faults, errors.New("pkcs12-password-file: is missing; format pkcs12 needs it: set it to a file whose first line is the password"))
	}
	if _, err := l.keyMode(); err != nil {
		faults = append(faults, fmt.Errorf("key-mode: %w", err))
	}
	if name, group, _ := strings.Cut(l.Owner, ":"); l.Owner != "" && name == "" && group == "" || strings.Contains(group, ":") {
		faults = append(faults, fmt.Errorf("owner: %q is invalid; use user, user:group or :group", l.Owner))
	}
	return errors.Join(append(faults, checkPermissions(l)...)...)
}

// Ready returns an error unless a set could be written: the owner exists and the
// password can be read. Call it before a certificate is ordered.
func (l Layout) Ready() error {
	_, err := l.resolve()
	return err
}

// Holds reports whether dir has the bundle in exactly this layout. Write fixes any
// difference.
func (l Layout) Holds(dir string, b *cert.Bundle) bool {
	have, err := Read(dir)
	if err != nil || !have.Leaf.Equal(b.Leaf) {
		return false
	}
	as, err := l.resolve()
	if err != nil {
		return false
	}
	files, err := as.files(have)
	if err != nil {
		return false
	}
	for _, f := range files {
		if !as.holds(filepath.Join(dir, f.name), f, have) {
			return false
		}
	}
	out, err := localfile.OpenRoot(dir)
	if err != nil {
		return false
	}
	defer out.Close()
	return len(leftovers(out, files)) == 0
}

func (l Layout) formats() []string {
	var all []string
	for _, f := range l.Formats {
		for part := range strings.SplitSeq(f, ",") {
			all = append(all, strings.TrimSpace(part))
		}
	}
	return all
}

func (l Layout) has(format string) bool { return slices.Contains(l.formats(), format) }

func (l Layout) keyMode() (fs.FileMode, error) {
	if l.KeyMode == "" {
		return 0o600, nil
	}
	mode, err := strconv.ParseUint(l.KeyMode, 8, 32)
	if err != nil || mode&^0o660 != 0 || mode&0o400 == 0 {
		return 0, fmt.Errorf("%q is not allowed for a key; use 0600, or 0640 for the owner's group to read it", l.KeyMode)
	}
	return fs.FileMode(mode), nil
}

// resolved holds a Layout with the user ids and the password of this host.
type resolved struct {
	haproxy, pkcs12 bool
	password        string
	keyMode         fs.FileMode
	uid, gid        int // -1 leaves the default
	replaces        replacement
}

func (l Layout) resolve() (resolved, error) {
	if err := l.Validate(); err != nil {
		return resolved{}, err
	}
	r := resolved{haproxy: l.has(FormatHAProxy), pkcs12: l.has(FormatPKCS12)}
	var errs [3]error
	r.keyMode, errs[0] = l.keyMode()
	r.uid, r.gid, errs[1] = lookUp(l.Owner)
	if r.pkcs12 {
		r.password, errs[2] = readPassword(l.PKCS12PasswordFile)
	}
	return r, errors.Join(errs[:]...)
}

// lookUp finds user, user:group or :group. A user alone does not change the group.
func lookUp(owner string) (uid, gid int, err error) {
	name, group, _ := strings.Cut(owner, ":")
	uid, gid = -1, -1
	if name != "" {
		if uid, err = number(name, func() (string, error) {
			u, err := user.Lookup(name)
			if err != nil {
				return "", err
			}
			return u.Uid, nil
		}); err != nil {
			return -1, -1, fmt.Errorf("owner: no user %q on this host; create it, or write another", name)
		}
	}
	if group != "" {
		if gid, err = number(group, func() (string, error) {
			g, err := user.LookupGroup(group)
			if err != nil {
				return "", err
			}
			return g.Gid, nil
		}); err != nil {
			return -1, -1, fmt.Errorf("owner: no group %q on this host; create it, or write another", group)
		}
	}
	return uid, gid, nil
}

// number returns the ID of a name, which may be a number already.
func number(name string, find func() (string, error)) (int, error) {
	if id, err := strconv.ParseUint(name, 10, 31); err == nil {
		return int(id), nil
	}
	text, err := find()
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// readPassword returns the file's first line.
func readPassword(path string) (string, error) {
	data, err := localfile.ReadAny(path)
	if err != nil {
		return "", fmt.Errorf("pkcs12-password-file: %w; set it to a file whose first line is the password", err)
	}
	line, _, _ := bytes.Cut(data, []byte("\n"))
	password := strings.TrimSuffix(string(line), "\r")
	if password == "" {
		return "", fmt.Errorf("pkcs12-password-file: the first line of %s is empty; write the password there", path)
	}
	if strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r > '~' }) { // OpenSSL and Java differ on how to encode others
		return "", fmt.Errorf("pkcs12-password-file: the password in %s has characters that are not plain ASCII, which programs read differently; write another", path)
	}
	return password, nil
}

// file holds one file of a set. Its mode and owner are set before its content is
// written.
type file struct {
	name string
	data []byte
	mode fs.FileMode
}

// files returns the files of the set.
func (r resolved) files(b *cert.Bundle) ([]file, error) {
	key, err := b.KeyPEM()
	if err != nil {
		return nil, err
	}
	set := []file{
		{Key, key, r.keyMode},
		{Cert, b.LeafPEM(), 0o644},
		{Chain, b.ChainPEM(), 0o644},
		{Fullchain, b.FullchainPEM(), 0o644},
	}
	if r.haproxy {
		set = append(set, file{HAProxy, slices.Concat(b.FullchainPEM(), key), r.keyMode})
	}
	if r.pkcs12 {
		data, err := encodePKCS12(b, r.password)
		if err != nil {
			return nil, err
		}
		set = append(set, file{PKCS12, data, r.keyMode})
	}
	return set, nil
}

// holds reports whether the file at path is f. PKCS#12 files differ each time, so
// their decrypted content is compared.
func (r resolved) holds(path string, f file, b *cert.Bundle) bool {
	if !r.hasPermissions(path, f.mode) {
		return false
	}
	data, err := localfile.ReadAny(path)
	if err != nil {
		return false
	}
	if f.name == PKCS12 {
		return opensPKCS12(data, r.password, b)
	}
	return bytes.Equal(data, f.data)
}

// leftovers returns our links and copies in an output folder that no longer belong to
// the set.
func leftovers(out *os.Root, set []file) []string {
	var found []string
	for _, name := range []string{HAProxy, PKCS12} {
		if slices.Contains(namesOf(set), name) {
			continue
		}
		if target, err := out.Readlink(name); err == nil && target == filepath.Join(versions, current, name) || err != nil && isCopy(out, name) {
			found = append(found, name)
		}
	}
	return found
}

func namesOf(set []file) []string {
	names := make([]string, len(set))
	for i, f := range set {
		names[i] = f.name
	}
	return names
}
