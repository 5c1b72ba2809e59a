package agent

import (
	"sync"
	"testing"
	"testing/synctest"
)

func rung(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// A ring wakes all who listen to that certificate and nobody else, once.
func TestBell(t *testing.T) {
	var b bell
	b.ring("a") // nobody is there
	first, leaveFirst := b.listen("a")
	second, leaveSecond := b.listen("a")
	other, leaveOther := b.listen("b")
	if rung(first) || rung(other) {
		t.Error("rung before the ring")
	}
	b.ring("a")
	if !rung(first) || !rung(second) || rung(other) {
		t.Errorf("rung: %v, %v, other %v", rung(first), rung(second), rung(other))
	}
	again, leaveAgain := b.listen("a")
	if rung(again) {
		t.Error("a ring of the past wakes who comes later")
	}
	leaveFirst() // they belong to the ring before, and must not end the new one
	leaveSecond()
	b.ring("a")
	if !rung(again) {
		t.Error("the second ring was not heard")
	}
	leaveAgain()
	leaveOther()
	if len(b.waiting) != 0 {
		t.Errorf("%d certificates are still listened to", len(b.waiting))
	}
}

// Those who leave cost nothing, and those who stay still hear.
func TestBellLeave(t *testing.T) {
	var b bell
	_, leave := b.listen("a")
	stays, leaveStays := b.listen("a")
	leave()
	b.ring("a")
	if !rung(stays) {
		t.Error("the ring was not heard after another one left")
	}
	leaveStays()
	_, leave = b.listen("a")
	leave()
	if len(b.waiting) != 0 {
		t.Errorf("%d certificates are still listened to", len(b.waiting))
	}
}

func TestBellConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var b bell
		var listening, heard sync.WaitGroup
		for range 50 {
			listening.Add(1)
			heard.Go(func() {
				c, leave := b.listen("a")
				defer leave()
				listening.Done()
				<-c
			})
			heard.Go(func() {
				_, leave := b.listen("a")
				leave()
			})
		}
		listening.Wait()
		b.ring("a")
		heard.Wait() // or synctest reports a deadlock
		if len(b.waiting) != 0 {
			t.Errorf("%d certificates are still listened to", len(b.waiting))
		}
	})
}
