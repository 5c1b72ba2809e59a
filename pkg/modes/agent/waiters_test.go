package agent

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A wake-up reaches all callers that wait for that certificate, and no others, once.
func TestWaiters(t *testing.T) {
	var w Waiters
	w.wake("a") // no caller waits
	first, leaveFirst := w.join("a")
	second, leaveSecond := w.join("a")
	other, leaveOther := w.join("b")
	if isClosed(first) || isClosed(other) {
		t.Error("woken too early")
	}
	w.wake("a")
	if !isClosed(first) || !isClosed(second) || isClosed(other) {
		t.Errorf("woken: %v, %v, other %v", isClosed(first), isClosed(second), isClosed(other))
	}
	again, leaveAgain := w.join("a")
	if isClosed(again) {
		t.Error("an earlier wake-up wakes a later caller")
	}
	leaveFirst() // they belong to the earlier wake-up, and must not remove the new caller
	leaveSecond()
	w.wake("a")
	if !isClosed(again) {
		t.Error("the second wake-up was lost")
	}
	leaveAgain()
	leaveOther()
	if len(w.waiting) != 0 {
		t.Errorf("%d certificates still have waiting callers", len(w.waiting))
	}
}

// Callers that leave use no memory, and those that stay are still woken.
func TestWaitersLeave(t *testing.T) {
	var w Waiters
	_, leave := w.join("a")
	stays, leaveStays := w.join("a")
	leave()
	w.wake("a")
	if !isClosed(stays) {
		t.Error("the wake-up was lost after another caller left")
	}
	leaveStays()
	_, leave = w.join("a")
	leave()
	if len(w.waiting) != 0 {
		t.Errorf("%d certificates still have waiting callers", len(w.waiting))
	}
}

func TestWaitersConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Waiters
		var joined, done sync.WaitGroup
		for range 50 {
			joined.Add(1)
			done.Go(func() {
				c, leave := w.join("a")
				defer leave()
				joined.Done()
				<-c
			})
			done.Go(func() {
				_, leave := w.join("a")
				leave()
			})
		}
		joined.Wait()
		w.wake("a")
		done.Wait() // or synctest reports a deadlock
		if len(w.waiting) != 0 {
			t.Errorf("%d certificates still have waiting callers", len(w.waiting))
		}
	})
}

// X19: a job with the settings before a reload wakes the long polls of the settings
// after it, and vice versa.
func TestModesShareWaiters(t *testing.T) {
	var w Waiters
	earlier, later := New(Config{Waiters: &w}), New(Config{Waiters: &w})
	for _, pair := range [][2]*Agent{{earlier, later}, {later, earlier}} {
		wake, leave := pair[0].waiters.join("a")
		pair[1].Settled(t.Context(), managed.Outcome{Certificate: managed.Certificate{ID: "a"}})
		if !isClosed(wake) {
			t.Error("not woken")
		}
		leave()
	}
}
