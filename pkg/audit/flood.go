package audit

import (
	"sync"
	"time"

	"golang.org/x/time/rate"
)

const (
	refusalsPerSecond = 10
	refusalsBurst     = 100
	reportEvery       = time.Minute
)

// flood bounds how many refusals are recorded. The zero value is ready.
type flood struct {
	mu sync.Mutex // guards all fields
	// by client id, "" for all strangers together: nobody's noise hides what
	// another one does, and there are never more limiters than clients.
	limiters map[string]*rate.Limiter
	dropped  int       // since reported
	reported time.Time // when dropped was told last
}

// admit tells whether to record a refusal of the client, and, at most once in
// reportEvery, how many were dropped since it told last.
func (f *flood) admit(clientID string, now time.Time) (keep bool, dropped int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	limiter := f.limiters[clientID]
	if limiter == nil {
		if f.limiters == nil {
			f.limiters = make(map[string]*rate.Limiter)
		}
		limiter = rate.NewLimiter(refusalsPerSecond, refusalsBurst)
		f.limiters[clientID] = limiter
	}
	keep = limiter.AllowN(now, 1)
	if !keep {
		f.dropped++
	}
	if f.dropped > 0 && now.Sub(f.reported) >= reportEvery {
		dropped, f.dropped, f.reported = f.dropped, 0, now
	}
	return keep, dropped
}

// limiters hold one limiter for each client that asked.
type limiters struct {
	every rate.Limit
	burst int

	mu       sync.Mutex               // guards byClient
	byClient map[string]*rate.Limiter // by client id
}

func (l *limiters) allow(clientID string, now time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	limiter := l.byClient[clientID]
	if limiter == nil {
		if l.byClient == nil {
			l.byClient = make(map[string]*rate.Limiter)
		}
		limiter = rate.NewLimiter(l.every, l.burst)
		l.byClient[clientID] = limiter
	}
	return limiter.AllowN(now, 1)
}
