package preflight

import (
	"context"
	"sync"

	"github.com/miekg/dns"
)

// Bounds of the answers that one Run remembers. Beyond them it asks again.
const (
	maxAnswers     = 4096
	maxAnswerBytes = 1 << 20 // of their records
)

type question struct {
	name  string
	qtype uint16
}

// lookup is one question to the resolvers, with its answer or failure.
type lookup struct {
	done    chan struct{} // closed when the others are set
	records []dns.RR
	err     error
	cut     bool // its context ended first, so it says nothing
}

// answers holds the lookups of one Run, because its names have parents in common. It is
// safe for concurrent use.
type answers struct {
	mu     sync.Mutex // guards the others
	begun  map[question]*lookup
	stored int // bytes
}

// get returns the answer to a question, which it asks once: failures are remembered, too,
// and callers at the same time share one. The records must not be changed.
func (a *answers) get(ctx context.Context, q question, ask func() ([]dns.RR, error)) ([]dns.RR, error) {
	l, own := a.lookup(q)
	switch {
	case l == nil:
		return ask()
	case own:
		l.records, l.err = ask()
		l.cut = ctx.Err() != nil
		a.store(q, l)
		close(l.done)
		return l.records, l.err
	}
	select {
	case <-l.done:
	case <-ctx.Done():
		return ask() // which returns that ctx has ended
	}
	if l.cut {
		return ask() // for this name there is more time
	}
	return l.records, l.err
}

// lookup returns the lookup of a question, and whether the caller must ask it. It returns
// nil if there is no room for one more.
func (a *answers) lookup(q question) (l *lookup, own bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l := a.begun[q]; l != nil {
		return l, false
	}
	if len(a.begun) >= maxAnswers {
		return nil, false
	}
	l = &lookup{done: make(chan struct{})}
	a.begun[q] = l
	return l, true
}

// store forgets a lookup whose answer is not worth its room.
func (a *answers) store(q question, l *lookup) {
	size := 0
	for _, rr := range l.records {
		size += dns.Len(rr)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.cut || a.stored+size > maxAnswerBytes {
		delete(a.begun, q)
		return
	}
	a.stored += size
}
