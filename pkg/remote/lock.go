package remote

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// lock ensures that one process at a time works on a certificate. An administrator's
// command and the daemon may work on the same one.
func (k *Kept) lock(ctx context.Context) (unlock func(), err error) {
	return lock(ctx, lockPath(k.path))
}

func lockPath(path string) string { return strings.TrimSuffix(path, ".json") + ".lock" }

// Limits for a lock that another process holds. flock itself would wait without end.
// A command that waits for the proxy may hold the lock longer. Then the daemon tries
// again at its next turn.
const (
	lockFor   = 30 * time.Minute       // timeout
	lockEvery = 100 * time.Millisecond // interval of attempts
)

// lock acquires an exclusive lock on a file, against other processes and other callers
// in this one. It creates the file and its folder if necessary. The file is never
// removed, because then two callers could hold the lock.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	if err := localfile.MkdirPrivate(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|localfile.NoLinkNoWait, 0o600)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	again, end := time.NewTicker(lockEvery), time.NewTimer(lockFor)
	defer again.Stop()
	defer end.Stop()
	for {
		err := localfile.TryLock(f)
		if err == nil {
			return func() { f.Close() }, nil
		}
		if !errors.Is(err, localfile.ErrLocked) {
			return nil, errors.Join(fmt.Errorf("state-dir: lock %s: %w", path, err), f.Close())
		}
		select {
		case <-again.C:
		case <-end.C:
			return nil, errors.Join(fmt.Errorf("state-dir: another process has held %s for %v; find it with fuser and stop it", path, lockFor), f.Close())
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("state-dir: another process holds %s: %w", path, ctx.Err()), f.Close())
		}
	}
}
