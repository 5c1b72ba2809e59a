package cert

import (
	"fmt"
	"regexp"
	"runtime"
	"strings"
)

// CheckStoredName returns an error unless name can identify a new certificate that a
// program stores: letters, digits, ".", "-", "_" and "*", without a full stop or a
// hyphen at the start. A folder of that name must be possible on all systems.
func CheckStoredName(name string) error {
	if err := checkStored(name); err != nil {
		return err
	}
	switch {
	case strings.HasSuffix(name, "."):
		return fmt.Errorf("%q ends with a full stop, which Windows omits; remove it", name)
	case isDevice(name):
		return fmt.Errorf("%q is a device on Windows; use a longer name", name)
	}
	return nil
}

// IsStoredName reports whether name may be the name of a certificate that is stored
// already. Names of a system's devices were possible once.
func IsStoredName(name string) bool { return checkStored(name) == nil }

func checkStored(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("is empty; use a name such as web1.example.com")
	case len(name) > maxName:
		return fmt.Errorf("has %d bytes; use at most %d", len(name), maxName)
	case name[0] == '.' || name[0] == '-':
		return fmt.Errorf("%q starts with %q; start with a letter or a digit", name, name[0])
	case strings.ContainsFunc(name, isNotStorable):
		return fmt.Errorf("%q is not allowed; use letters, digits, and the characters . - _ *", name)
	}
	return nil
}

// device matches the names of devices, which no file on Windows can have. See "Naming
// Files, Paths, and Namespaces" in Microsoft's documentation.
var device = regexp.MustCompile(`(?i)^(con|prn|aux|nul|com[0-9]|lpt[0-9])$`)

func isDevice(name string) bool { return device.MatchString(name) }

func isNotStorable(r rune) bool {
	switch {
	case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9':
		return false
	}
	return !strings.ContainsRune(".-_*", r)
}

// StoredName returns the default stored name of a certificate. first is the first of
// its identifiers as the administrator gave them, in canonical form.
func StoredName(first string) string {
	name := strings.TrimLeft(strings.ReplaceAll(first, ":", "-"), "-.") // of an IPv6 address
	if CheckStoredName(name) != nil {
		return "certificate"
	}
	return name
}

// FolderName returns the name of the default folder of a certificate with that stored
// name.
func FolderName(stored string) string { return folderName(stored, runtime.GOOS) }

// folderName works like FolderName, for that operating system. Earlier versions of Windows
// take a device's name with any extension for the device, such as aux.example.com.
func folderName(stored, system string) string {
	name := strings.ReplaceAll(stored, "*", "_wildcard")
	if first, _, _ := strings.Cut(name, "."); system == "windows" && isDevice(first) {
		return "_" + name
	}
	return name
}
