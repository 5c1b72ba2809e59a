package connlimit

import (
	"runtime"
	"sync"
	"time"
)

// turns lets few connections of strangers compute at a time: half of the cores,
// at least one. Otherwise hundreds of handshakes would be runnable at once, and
// an answer of port 80 would wait for all of them. A turn begins when something
// was read and ends with the next read or write, at the latest after maxTurn.
type turns chan struct{}

// maxTurn is for a connection that waits for something else than its peer.
const maxTurn = 10 * time.Millisecond

func newTurns() turns { return make(turns, max(1, runtime.GOMAXPROCS(0)/2)) }

// turn is a connection's own. Its zero value is none.
type turn struct {
	mu    sync.Mutex
	of    turns // nil: none; guarded by mu
	timer *time.Timer
}

// begin waits for a turn.
func (t *turn) begin(of turns) {
	of <- struct{}{}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of != nil {
		<-t.of
	}
	t.of = of
	if t.timer == nil {
		t.timer = time.AfterFunc(maxTurn, t.end)
	} else {
		t.timer.Reset(maxTurn)
	}
}

// end ends the turn, if there is one.
func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of != nil {
		<-t.of
		t.of = nil
		t.timer.Stop()
	}
}
