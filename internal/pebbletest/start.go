package pebbletest

import (
	"context"
	"errors"
	"os"
	"testing"
)

// requireVariable is set to 1 where no test may be skipped for want of Pebble.
const requireVariable = "ACMEPROXY_REQUIRE_PEBBLE"

// Start starts a CA for the time of a test or benchmark. If the test fails,
// the end of Pebble's log is shown.
func Start(t testing.TB, o Options) *CA {
	t.Helper()
	ca, err := New(o)
	if err != nil {
		t.Fatalf("start Pebble: %v", err)
	}
	t.Cleanup(func() {
		ca.Close()
		showLog(t, ca.Log())
	})
	return ca
}

// StartProcess starts a Process for the time of a test or benchmark. If the
// test fails, the end of its log is shown. Where Pebble is not built the test
// is skipped, unless ACMEPROXY_REQUIRE_PEBBLE=1 is set: then it fails.
func StartProcess(t testing.TB, o ProcessOptions) *Process {
	t.Helper()
	// Not t.Context(): it ends before the cleanup of tests, which may still
	// need the CA.
	p, stop, err := Run(context.Background(), o)
	if errors.Is(err, ErrNotBuilt) && os.Getenv(requireVariable) != "1" {
		t.Skipf("SKIP: %v", ErrNotBuilt)
	}
	if err != nil {
		t.Fatalf("start Pebble: %v", err)
	}
	t.Cleanup(func() {
		stop()
		showLog(t, p.Log())
	})
	return p
}

// showLog shows Pebble's log if the test failed.
func showLog(t testing.TB, text string) {
	t.Helper()
	if t.Failed() && text != "" {
		t.Logf("Pebble's log:\n%s", text)
	}
}
