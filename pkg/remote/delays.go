package remote

import (
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
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

// mayHaveCost reports whether the attempt may have cost the CA an order.
func (k *Kept) mayHaveCost(failure error) bool {
	var e *unreachableError
	return !k.Mode.IsUnattended() && (!errors.As(failure, &e) || e.sent)
}

// unpark removes retry times that a wrong clock wrote. The expiry of the certificate
// does not matter for them.
func (k *Kept) unpark(now time.Time) {
	for _, at := range []*time.Time{&k.NextAttempt, &k.AskAgain} {
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
}

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
// until the next one.
func (d *delays) recordMiss(path string, longest time.Duration) time.Duration {
	const first, doublings = 2 * time.Second, 12
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waitLocked(path, answered)
	n := min(d.misses[path], doublings)
	d.misses[path] = n + 1
	delay := min(first<<n, longest)
	return delay - rand.N(delay/10+1)
}

// clear removes the delay of a certificate and its count of misses.
func (d *delays) clear(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.misses, path)
	delete(d.waiting, path)
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

// isTemporary reports whether the proxy or the CA behind it may recover soon.
func isTemporary(failure error) bool {
	var e *acme.Error
	var p *api.Problem
	return errors.As(failure, &e) && e.Kind == acme.Temporary || errors.As(failure, &p) && p.Status >= 500
}

// recordFailure stores a failure in k and returns the time of the next attempt. If
// eased is set, the previous delay ended early. Then the next delay does not, because
// the cause may be the certificate itself.
func (d *daemon) recordFailure(k *Kept, failure error, eased bool) time.Time {
	now, poll := time.Now(), d.poll()
	k.LastError, k.Transient = failure.Error(), false
	var e *unreachableError
	if errors.As(failure, &e) && !k.mayHaveCost(failure) {
		k.NextAttempt = time.Time{}
		return now.Add(d.delays.recordMiss(k.path, poll))
	}
	d.delays.clear(k.path)
	if !work.IsLocal(failure) {
		k.Failures++
	}
	retryAt := work.RetryAt(now, max(k.Failures-1, 0), k.NotAfter, failure)
	switch {
	case !k.Mode.IsUnattended(): // each attempt may cost the CA an order
		k.NextAttempt = retryAt.UTC()
		if k.Transient = !eased && work.IsTransient(now, failure); k.Transient {
			d.delays.wait(k.path, obtained)
		}
		return retryAt
	case work.IsLocal(failure), isTemporary(failure):
		if p := (*api.Problem)(nil); errors.As(failure, &p) {
			retryAt = work.RetryAt(now, max(k.Failures-1, 0), k.NotAfter, asIssuerError("", failure))
		}
		if retryAt.Before(now.Add(poll)) {
			return retryAt
		}
	}
	return now.Add(poll)
}
