package pebbletest

import (
	"context"
	"errors"
	"os"
	"testing"
)

// requireVariable is set to 1 if a missing Pebble must fail a test instead of
// skipping it.
const requireVariable = "ACMEPROXY_REQUIRE_PEBBLE"

// Start starts a CA until the test or benchmark ends. If the test fails, it shows the
// end of Pebble's log.
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

// StartProcess starts a Process until the test or benchmark ends. If the test fails,
// it shows the end of the log. If Pebble is not built, it skips the test, or fails it
// with ACMEPROXY_REQUIRE_PEBBLE=1.
func StartProcess(t testing.TB, o ProcessOptions) *Process {
	t.Helper()
	// t.Context() ends before the cleanup of tests, which may still need the CA.
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
