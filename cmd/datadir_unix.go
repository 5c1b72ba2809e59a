//go:build unix

package cmd

import (
	"os"
	"path/filepath"
)

// defaultDataDir returns /var/lib/acmeproxy for root and, for other users, acmeproxy
// in the XDG state directory (XDG Base Directory Specification).
func defaultDataDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/var/lib/acmeproxy"
	}
	// The specification ignores relative paths.
	if state := getenv("XDG_STATE_HOME"); filepath.IsAbs(state) {
		return filepath.Join(state, "acmeproxy")
	}
	// Without a home directory, creating it fails later, with an error.
	return filepath.Join("/", getenv("HOME"), ".local", "state", "acmeproxy")
}

// defaultFile returns the path of a configuration file that is read if it is there.
func defaultFile(name string) string { return filepath.Join("/etc/acmeproxy", name) }

// isUsable reports whether a default configuration file is there.
func isUsable(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
