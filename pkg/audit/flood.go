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

// flood limits the number of recorded refusals. The zero value is ready to use.
type flood struct {
	mu sync.Mutex // guards all fields
	// limiters is keyed by client ID, "" for all unknown callers together. So a flood
	// from one client does not hide the refusals of another, and there are at most as
	// many limiters as clients, and one more.
	limiters map[string]*rate.Limiter
	dropped  int       // entries since reported
	reported time.Time // time of the last report
}

// admit reports whether to record a refusal of the client. At most once in
// reportEvery, it also returns how many were dropped since its last report.
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

// limiters holds one rate limiter for each client.
type limiters struct {
	every rate.Limit
	burst int

	mu       sync.Mutex               // guards byClient
	byClient map[string]*rate.Limiter // by client ID
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
