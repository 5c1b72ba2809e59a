package cert

import "testing"

// A folder of a device's name exists on no Windows system. Folders elsewhere stay.
func TestFolderNameOnWindows(t *testing.T) { // X43, X46
	t.Parallel()
	for stored, want := range map[string][2]string{
		"aux.example.com": {"_aux.example.com", "aux.example.com"},
		"Con":             {"_Con", "Con"},
		"auxx.example":    {"auxx.example", "auxx.example"},
		"*.example.com":   {"_wildcard.example.com", "_wildcard.example.com"},
	} {
		if got := [2]string{folderName(stored, "windows"), folderName(stored, "linux")}; got != want {
			t.Errorf("%s: %q, want %q", stored, got, want)
		}
	}
}
