package cert_test

import (
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func TestStoredName(t *testing.T) { // X43
	t.Parallel()
	for first, want := range map[string]string{
		"web1.example.com": "web1.example.com", "*.example.com": "*.example.com", "192.0.2.1": "192.0.2.1",
		"2001:db8::1": "2001-db8--1", "::1": "1", "::": "certificate", "": "certificate",
	} {
		if got := cert.StoredName(first); got != want {
			t.Errorf("StoredName(%q) is %q, want %q", first, got, want)
		}
	}
	if got := cert.FolderName("*.example.com"); got != "_wildcard.example.com" {
		t.Errorf("folder %q", got)
	}
}

func TestCheckStoredName(t *testing.T) { // X43
	t.Parallel()
	for _, good := range []string{"a", "web1.example.com", "*.example.com", "_acme", "Web-1", "aux.example.com", "console", "com10", strings.Repeat("a", 253)} {
		if err := cert.CheckStoredName(good); err != nil {
			t.Errorf("%q: %v", good, err)
		}
	}
	for _, bad := range []string{"", ".", "..", "-a", ".a", "a/b", `a\b`, "a b", "a:b", "a\x00", "é", strings.Repeat("a", 254), "a.", "con", "NUL", "aux", "lpt1", "COM9"} {
		if err := cert.CheckStoredName(bad); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// Certificates that have a device's name already are still found.
func TestIsStoredName(t *testing.T) { // X43
	t.Parallel()
	for name, want := range map[string]bool{"web1": true, "con": true, "a.": true, "": false, "..": false, "a b": false} {
		if got := cert.IsStoredName(name); got != want {
			t.Errorf("%q: %v", name, got)
		}
	}
}

// Every default name is a valid stored name, and its folder is one folder.
func FuzzStoredName(f *testing.F) {
	for _, seed := range []string{"web1.example.com", "*.example.com", "::1", "-", "../x", "a\x00b"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, first string) {
		name := cert.StoredName(first)
		if err := cert.CheckStoredName(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
		if folder := cert.FolderName(name); strings.ContainsAny(folder, `/\:*`) || strings.HasPrefix(folder, ".") {
			t.Errorf("folder %q", folder)
		}
	})
}
