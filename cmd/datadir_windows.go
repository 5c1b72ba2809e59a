package cmd

import (
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// programData returns the folder for data of all programs.
func programData(getenv func(string) string) string {
	if dir := getenv("ProgramData"); filepath.IsAbs(dir) {
		return dir
	}
	return `C:\ProgramData`
}

// defaultDataDir returns a folder for the data of all users' programs.
func defaultDataDir(_ int, getenv func(string) string) string {
	return filepath.Join(programData(getenv), "acmeproxy")
}

// defaultFile returns the path of a configuration file that is read if it is there.
func defaultFile(name string) string { return `C:\ProgramData\acmeproxy\` + name }

// isUsable reports whether a default configuration file is there, and belongs to a
// trusted user in a folder of one. Every user may create folders in ProgramData, and
// the file names commands to run.
func isUsable(path string) bool {
	return localfile.IsTrustedAt(path) && localfile.IsTrustedAt(filepath.Dir(path))
}
