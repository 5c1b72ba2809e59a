package remote

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// leftoverAge is the age at which no process can be writing a temporary file any more.
const leftoverAge = time.Hour

// stateFile matches the temporary files of the state directory, as renameio and
// package seal name them.
var stateFile = regexp.MustCompile(`^\.(key\.pem|identity\.age|identity-old\.age|remote\.json|host-id)(\.next)?-?[0-9]+$`)

// removeLeftovers removes the temporary files of killed processes from a folder: those
// of this user with matching names. The caller must hold the lock of their writers. It
// returns no error, because leftovers only need space.
func removeLeftovers(dir string, names *regexp.Regexp) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !names.MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && localfile.IsTrustedAt(filepath.Join(dir, e.Name())) && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// writeState writes a file of the state directory atomically.
func writeState(path string, data []byte) error { return localfile.Replace(path, data) }

// removeLeftovers removes the leftovers of the state directory, unless another process
// holds the lock.
func (s *State) removeLeftovers(ctx context.Context) {
	now, cancel := context.WithCancel(ctx)
	cancel() // lock tries once
	if unlock, err := lock(now, s.path(lockName)); err == nil {
		defer unlock()
		removeLeftovers(s.Dir, stateFile)
	}
}

// removeLeftovers removes the leftovers of one certificate's state file.
func (k *Kept) removeLeftovers() {
	dir, base := filepath.Split(k.path)
	removeLeftovers(dir, regexp.MustCompile(`^\.`+regexp.QuoteMeta(base)+`[0-9]+$`))
}
