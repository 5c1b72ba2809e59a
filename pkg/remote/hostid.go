package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// hostIDName is the file with the random ID of a state directory. It stays after a rekey
// and a new enrolment, because the folders of the certificates have it in their records.
const hostIDName = "host-id"

var hostID = regexp.MustCompile(`^[A-Z2-7]{26}$`)

// readHostID returns the ID of a state directory, or an empty string if it has none.
// Then its path identifies it.
func readHostID(dir string) string {
	data, err := localfile.Read(filepath.Join(dir, hostIDName))
	if id := strings.TrimSpace(string(data)); err == nil && hostID.MatchString(id) {
		return id
	}
	return ""
}

// ensureHostID gives the state directory an ID. It replaces no file, because without a
// readable ID the path counts.
func (s *State) ensureHostID(ctx context.Context) error {
	path := filepath.Join(s.Dir, hostIDName)
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // see above
	}
	unlock, err := s.lockRows(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // another process was first
	}
	if err := writeState(path, []byte(rand.Text()+"\n")); err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}
