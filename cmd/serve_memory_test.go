package cmd

import (
	"runtime/debug"
	"testing"
)

// The memory limit grows with the connections of authenticated clients, unless the
// administrator sets GOMEMLIMIT (X41).
func TestAllowMemory(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	defer debug.SetMemoryLimit(before)
	limit := func(known int) int64 {
		allowMemory(known)
		return debug.SetMemoryLimit(-1) >> 20
	}
	t.Setenv("GOMEMLIMIT", "")
	for known, want := range map[int]int64{0: 90, 1600: 190, 2048: 218} {
		if got := limit(known); got != want {
			t.Errorf("%d connections: %d MiB, want %d", known, got, want)
		}
	}
	t.Setenv("GOMEMLIMIT", "300MiB")
	if a, b := limit(0), limit(2048); a != b {
		t.Errorf("GOMEMLIMIT is set: %d MiB, then %d", a, b)
	}
}
