//go:build unix

package issuer_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/internal/dnstest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
)

// If the issuance is cancelled while a program still runs, its record is removed as
// well.
func TestCancelWhilePublishing(t *testing.T) {
	unsetProviders(t)
	_, dir := script(t, `
if test "$1" = present; then
	echo > begun
	read x < go
fi
echo "$1" >> calls
`)
	if err := unix.Mkfifo(filepath.Join(dir, "go"), 0o600); err != nil {
		t.Fatal(err)
	}
	e, _ := startDNS(t, "exec", dnstest.Options{Dir: dir}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := e.issuer.Issue(ctx, ec(names(t, "zone.example")), nil)
		done <- err
	}()
	watch.Until(t, "the hook runs", func() bool { _, err := os.Stat(filepath.Join(dir, "begun")); return err == nil })
	cancel()
	if err := os.WriteFile(filepath.Join(dir, "go"), []byte("\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	e.issuer.Close()
	calls, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil || string(calls) != "present\ncleanup\n" {
		t.Errorf("calls %q, %v; want the record removed", calls, err)
	}
}
