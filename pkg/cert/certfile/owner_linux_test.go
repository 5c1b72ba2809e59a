package certfile_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// The owner of the folder exchanges the record, a file of the set, or the folder of
// the sets for a named pipe all the time. Nothing that reads them waits for the pipe.
func TestOwnerIsNoPipe(t *testing.T) { // X43
	for _, name := range []string{".acmeproxy/owner", ".acmeproxy/current", ".acmeproxy", "privkey.pem"} {
		t.Run(filepath.Base(name), func(t *testing.T) {
			dir, a := filepath.Join(t.TempDir(), "out"), owner(t, "a")
			if err := writeOwned(t, dir, 1, certfile.Claim{Owner: a}); err != nil {
				t.Fatal(err)
			}
			var done atomic.Bool
			var attacker sync.WaitGroup
			path, pipe := filepath.Join(dir, name), filepath.Join(dir, "pipe")
			if err := unix.Mkfifo(pipe, 0o666); err != nil {
				t.Fatal(err)
			}
			var swaps atomic.Int64
			attacker.Go(func() {
				for !done.Load() {
					if unix.Renameat2(unix.AT_FDCWD, pipe, unix.AT_FDCWD, path, unix.RENAME_EXCHANGE) == nil {
						swaps.Add(1)
					}
				}
			})
			for turn := int64(0); turn < 10 || swaps.Load() < 10 && t.Context().Err() == nil; turn++ {
				claim := certfile.Claim{Owner: a, Force: turn%2 == 1}
				_ = certfile.Layout{}.Claimable(dir, claim) // each may fail, but must return
				_ = certfile.Layout{}.WriteAs(t.Context(), dir, bundle(t, turn+2), claim)
				_ = certfile.Layout{}.WriteOneByOne(t.Context(), dir, bundle(t, turn+2), claim)
				_, _ = certfile.Layout{}.Foreign(dir)
				_ = errors.Join(certfile.Finish(t.Context(), dir), certfile.Adopt(t.Context(), dir, a), certfile.Release(t.Context(), dir, a))
			}
			done.Store(true)
			attacker.Wait()
		})
	}
}

// Force fails before an order if a foreign file cannot be copied.
func TestForceNeedsCopies(t *testing.T) { // X43
	dir, claim := t.TempDir(), certfile.Claim{Owner: owner(t, "a"), Force: true}
	if err := (certfile.Layout{}).Claimable(dir, claim); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
	if err := unix.Mkfifo(filepath.Join(dir, "privkey.pem"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := (certfile.Layout{}).Claimable(dir, claim); err == nil || !strings.Contains(err.Error(), "privkey.pem is not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
}
