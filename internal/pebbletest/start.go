package pebbletest

import "testing"

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

// showLog shows Pebble's log if the test failed.
func showLog(t testing.TB, text string) {
	t.Helper()
	if t.Failed() && text != "" {
		t.Logf("Pebble's log:\n%s", text)
	}
}
