package remote

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/google/renameio/v2"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// leftoverAge is how old a temporary file is when no process can be writing it.
const leftoverAge = time.Hour

// stateFile matches the temporary files of what is written in the state directory,
// as renameio and package seal name them.
var stateFile = regexp.MustCompile(`^\.(key\.pem|identity\.age|identity-old\.age|remote\.json)(\.next)?-?[0-9]+$`)

// removeLeftovers removes what killed processes left in a folder: temporary files of
// this user with such names. The caller holds the lock of those who write them. It
// reports no error, because they only need space.
func removeLeftovers(dir string, names *regexp.Regexp) {
	entries, _ := os.ReadDir(dir)
	for _, e := range entries {
		if !names.MatchString(e.Name()) {
			continue
		}
		info, err := e.Info()
		if err == nil && info.Mode().IsRegular() && localfile.IsTrusted(info) && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// writeState writes a file of the state directory, whole or not at all. renameio
// would write secrets to /tmp first, where no later run finds them.
func writeState(path string, data []byte) error {
	return renameio.WriteFile(path, data, 0o600, renameio.WithTempDir(filepath.Dir(path)))
}

// removeLeftovers removes the state directory's, unless another process is at work.
func (s *State) removeLeftovers(ctx context.Context) {
	now, cancel := context.WithCancel(ctx)
	cancel() // lock tries once
	if unlock, err := lock(now, s.path(lockName)); err == nil {
		defer unlock()
		removeLeftovers(s.Dir, stateFile)
	}
}

// removeLeftovers removes those of one certificate.
func (k *Kept) removeLeftovers() {
	dir, base := filepath.Split(k.path)
	removeLeftovers(dir, regexp.MustCompile(`^\.`+regexp.QuoteMeta(base)+`[0-9]+$`))
}
