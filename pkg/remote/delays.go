package remote

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/work"
)

// unreachableError means that the proxy did not answer.
type unreachableError struct {
	err  error
	sent bool // there was a connection, so the request may have arrived
}

func (e *unreachableError) Error() string { return "cannot reach the proxy: " + e.err.Error() }

func (e *unreachableError) Unwrap() error { return e.err }

// IsUnreachable reports whether the proxy did not answer, or the connection to it broke.
func IsUnreachable(err error) bool { return errors.As(err, new(*unreachableError)) }

// mayHaveCost reports whether the attempt may have cost the CA an order.
func (k *Kept) mayHaveCost(failure error) bool {
	var e *unreachableError
	return !k.Mode.IsUnattended() && !errors.Is(failure, ErrPin) && (!errors.As(failure, &e) || e.sent)
}

// unpark removes retry times that a wrong clock wrote. The expiry of the certificate
// does not matter for them.
func (k *Kept) unpark(now time.Time) {
	for _, at := range []*time.Time{&k.NextAttempt, &k.WaitUntil, &k.AskAgain} {
		if cert.IsParked(*at, time.Time{}, now) {
			*at = time.Time{}
		}
	}
}

// news is an event that ends a delay.
type news int

const (
	answered news = iota // the proxy answered
	obtained             // the gateway delivered a certificate, so the CA works
	kinds
)

// delays holds the delays that a success of another certificate ends. These are
// delays of certificates that did not reach the proxy, and of those that failed at
// the CA for a temporary reason. It is safe for concurrent use.
type delays struct {
	wake chan struct{} // has an entry when a delay may have ended; nil if no goroutine waits

	mu      sync.Mutex
	counts  [kinds]int         // of news so far
	waiting map[string]waiting // by path of the Kept
	eased   map[string]bool    // by path: its delay has ended early
	misses  map[string]int     // by path: attempts in a row that did not reach the proxy
	missed  map[string]bool    // by path: a person's try did not reach the proxy
	// prober is the path of the certificate that looks every minute whether the proxy
	// is back, and probeAt is when.
	prober  string
	probeAt time.Time
}

// probeEvery is the interval at which one certificate looks whether the proxy is back.
const probeEvery = time.Minute

type waiting struct {
	what  news
	count int // of that news when the wait began
}

// notify ends the delays that wait for n.
func (d *delays) notify(n news) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.counts[n]++
	for _, w := range d.waiting {
		if w.what == n {
			select {
			case d.wake <- struct{}{}:
			default:
			}
			return
		}
	}
}

// wait makes a certificate wait for n, unless it waits already.
func (d *delays) wait(path string, n news) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if w, ok := d.waiting[path]; !ok || w.what != n {
		d.waitLocked(path, n)
	}
}

func (d *delays) waitLocked(path string, n news) {
	if d.waiting == nil {
		d.waiting, d.eased, d.misses = map[string]waiting{}, map[string]bool{}, map[string]int{}
	}
	d.waiting[path] = waiting{n, d.counts[n]}
}

// recordMiss counts an attempt that did not reach the proxy, and returns the delay
// until the next one. One certificate tries at least once a minute. Its success ends the
// delays of the others.
func (d *delays) recordMiss(path string, longest time.Duration) time.Duration {
	const first, doublings = 2 * time.Second, 12
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waitLocked(path, answered)
	if d.prober == "" || time.Since(d.probeAt) > probeEvery {
		d.prober = path
	}
	if d.prober == path {
		longest = min(longest, probeEvery)
	}
	n := min(d.misses[path], doublings)
	d.misses[path] = n + 1
	delay := min(first<<n, longest)
	delay -= rand.N(delay/10 + 1)
	if d.prober == path {
		d.probeAt = time.Now().Add(delay)
	}
	return delay
}

// keepTry makes the next turn of a certificate a person's try, because this one did not
// reach the proxy.
func (d *delays) keepTry(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.missed == nil {
		d.missed = map[string]bool{}
	}
	d.missed[path] = true
}

// takeTry reports once whether the next turn is a person's try.
func (d *delays) takeTry(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	missed := d.missed[path]
	delete(d.missed, path)
	return missed
}

// clear removes the delay of a certificate and its count of misses.
func (d *delays) clear(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.misses, path)
	delete(d.waiting, path)
	if d.prober == path {
		d.prober = ""
	}
}

// takeEnded removes and returns the certificates whose delay has ended.
func (d *delays) takeEnded() (paths []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for path, w := range d.waiting {
		if d.counts[w.what] > w.count {
			paths = append(paths, path)
			delete(d.waiting, path)
			d.eased[path] = w.what == obtained
		}
	}
	return paths
}

// takeEased reports whether the delay of a certificate ended early because the CA
// works again. It reports this only once.
func (d *delays) takeEased(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	eased := d.eased[path]
	delete(d.eased, path)
	return eased
}

// recordFailure stores a failure in k and returns the time of the next attempt. If
// eased is set, the previous delay ended early. Then the next delay does not, because
// the cause may be the certificate itself.
func (d *daemon) recordFailure(k *Kept, failure error, eased bool) time.Time {
	now, poll, transient := time.Now(), d.poll(), k.Transient
	k.LastError, k.Transient = failure.Error(), false
	var e *unreachableError
	if (errors.As(failure, &e) || errors.Is(failure, ErrPin)) && !k.mayHaveCost(failure) {
		k.WaitUntil = time.Time{}
		if !k.counted { // a try is repeated, and must not delay the daemon's own attempt
			k.NextAttempt = time.Time{}
		}
		if k.try {
			d.delays.keepTry(k.path)
			k.returnTry()
		}
		return now.Add(d.delays.recordMiss(k.path, poll))
	}
	d.delays.clear(k.path)
	if k.Mode.IsUnattended() { // an attempt costs the CA nothing
		failures := k.Failures
		if !work.IsLocal(failure) {
			k.Failures++
		}
		if errors.As(failure, new(*api.Problem)) {
			failure = asIssuerError("", failure)
		}
		retryAt := work.RetryAt(now, failures, k.NotAfter, failure)
		if latest := now.Add(poll); retryAt.After(latest) {
			return latest
		}
		return retryAt
	}
	if k.keepPlan(now, failure) {
		k.Transient = transient
		return k.NextAttempt
	}
	k.setDelay(now, failure)
	if k.Transient = !eased && work.IsTransient(now, failure); k.Transient {
		d.delays.wait(k.path, obtained)
	}
	return k.NextAttempt
}
