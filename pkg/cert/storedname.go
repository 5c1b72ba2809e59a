package cert

import (
	"fmt"
	"strings"
)

// CheckStoredName returns an error unless name can identify a certificate that a
// program stores: letters, digits, ".", "-", "_" and "*", without a full stop or a
// hyphen at the start.
func CheckStoredName(name string) error {
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
func FolderName(stored string) string { return strings.ReplaceAll(stored, "*", "_wildcard") }
