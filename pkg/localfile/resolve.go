package localfile

import "path/filepath"

// Resolve returns path without symbolic links, as far as it exists. Two paths of one
// folder, existing or not, have the same result, unless a file system has several names
// for it. A missing or unreadable part is taken as it is.
func Resolve(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		path = abs
	}
	rest := ""
	for at := path; ; at = filepath.Dir(at) {
		if found, err := filepath.EvalSymlinks(at); err == nil {
			return filepath.Join(found, rest)
		}
		if at == filepath.Dir(at) {
			return path
		}
		rest = filepath.Join(filepath.Base(at), rest)
	}
}
