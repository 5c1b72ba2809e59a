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
		if names.MatchString(e.Name()) && isLeftover(dir, e) {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

func isLeftover(dir string, e os.DirEntry) bool {
	info, err := e.Info()
	return err == nil && info.Mode().IsRegular() && localfile.IsTrustedAt(filepath.Join(dir, e.Name())) && time.Since(info.ModTime()) > leftoverAge
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

// keptLeftover matches the files that a killed process leaves beside the state file of a
// certificate: temporary ones and reservations. The digits name its lock.
var keptLeftover = regexp.MustCompile(`^(?:\.([0-9a-f]{24})\.(?:json|reserved)-?[0-9]+|([0-9a-f]{24})\.reserved)$`)

// removeKeptLeftovers removes the leftovers of all certificates, also of those that were
// never stored, unless another process holds their lock.
func (s *State) removeKeptLeftovers() {
	dir := filepath.Join(s.Dir, certificatesName)
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		m := keptLeftover.FindStringSubmatch(e.Name())
		if m == nil || !isLeftover(dir, e) {
			continue
		}
		if unlock, err := tryLock(filepath.Join(dir, m[1]+m[2]+".lock")); err == nil {
			_ = os.Remove(filepath.Join(dir, e.Name()))
			unlock()
		}
	}
}

// removeLeftovers removes the leftovers of one certificate's state file.
func (k *Kept) removeLeftovers() {
	dir, base := filepath.Split(k.path)
	removeLeftovers(dir, regexp.MustCompile(`^\.`+regexp.QuoteMeta(base)+`[0-9]+$`))
}
