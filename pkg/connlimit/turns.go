package connlimit

import (
	"net/netip"
	"runtime"
	"sync"
	"time"
)

// turns limits how many connections of strangers compute at a time, to half of the
// cores but at least one. Otherwise hundreds of handshakes would be runnable at once,
// and an answer of port 80 would wait for all of them. A turn begins after a read and
// ends with the next read or write, or after maxTurn. Addresses take turns in order,
// so each flooding address delays the handshake of another address by one turn only.
type turns struct {
	mu      sync.Mutex // guards the fields below
	free    int
	waiting map[netip.Prefix]*queue // has no empty queue
	order   []*queue                // the next address in front
}

// queue holds the connections of one address that wait for a turn.
type queue struct {
	addr  netip.Prefix
	conns []chan struct{}
}

const (
	maxTurn = 10 * time.Millisecond // ends the turn of a connection that does not wait for its peer
	// maxRest limits the pause after a turn while other connections wait. A pause is
	// never longer than its turn. Pauses leave cores to authenticated clients and to
	// port 80. Without them, its answers took ten times as long under a flood.
	maxRest = time.Millisecond
)

func newTurns() *turns {
	return &turns{free: max(1, runtime.GOMAXPROCS(0)/2), waiting: make(map[netip.Prefix]*queue)}
}

// take waits until a turn of addr begins.
func (s *turns) take(addr netip.Prefix) {
	s.mu.Lock()
	if s.free > 0 {
		s.free--
		s.mu.Unlock()
		return
	}
	q := s.waiting[addr]
	if q == nil {
		q = &queue{addr: addr}
		s.waiting[addr] = q
		s.order = append(s.order, q)
	}
	begin := make(chan struct{})
	q.conns = append(q.conns, begin)
	s.mu.Unlock()
	<-begin
}

// release ends a turn that lasted took.
func (s *turns) release(took time.Duration) {
	s.mu.Lock()
	contended := len(s.order) > 0
	s.mu.Unlock()
	if contended {
		time.AfterFunc(min(took, maxRest), s.next)
		return
	}
	s.next()
}

// next gives a turn that ended to the first connection of the next address.
func (s *turns) next() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.order) == 0 {
		s.free++
		return
	}
	q := s.order[0]
	s.order = s.order[1:]
	close(q.conns[0])
	if q.conns = q.conns[1:]; len(q.conns) == 0 {
		delete(s.waiting, q.addr)
		return
	}
	s.order = append(s.order, q)
}

// turn is the turn of one connection. The zero value has not begun.
type turn struct {
	mu    sync.Mutex // guards the fields below
	of    *turns     // nil between turns
	begun time.Time
	timer *time.Timer
}

// begin waits until a turn begins.
func (t *turn) begin(of *turns, addr netip.Prefix) {
	of.take(addr)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of != nil {
		t.of.release(0)
	}
	t.of, t.begun = of, time.Now()
	if t.timer == nil {
		t.timer = time.AfterFunc(maxTurn, t.end)
	} else {
		t.timer.Reset(maxTurn)
	}
}

// end ends the turn, if it has begun.
func (t *turn) end() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.of != nil {
		t.of.release(time.Since(t.begun))
		t.of = nil
		t.timer.Stop()
	}
}
