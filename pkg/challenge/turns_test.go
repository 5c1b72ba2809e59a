package challenge

import (
	"context"
	"testing"
	"time"
)

// One at a time for each key, a pause in between, nothing kept for ever.
func TestTurns(t *testing.T) {
	var turns Turns
	first, _, err := turns.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, _, err := turns.Take(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	other(0)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := turns.Take(cancelled, "a"); err == nil {
		t.Error("two have the same turn")
	}
	const pause = 50 * time.Millisecond
	released := time.Now()
	first(pause)
	second, _, err := turns.Take(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if took := time.Since(released); took < pause {
		t.Errorf("the next turn came after %v, want %v", took, pause)
	}
	second(time.Hour)
	if _, _, err := turns.Take(cancelled, "a"); err == nil {
		t.Error("the pause was not kept")
	}
	if third, _, err := turns.Take(t.Context(), "c"); err != nil {
		t.Error(err)
	} else {
		third(0)
	}
	if len(turns.by) != 2 || turns.by["a"] == nil { // a's pause runs, c was the last
		t.Errorf("kept: %v", turns.by)
	}
}
