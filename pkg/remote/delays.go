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
	sent bool // a connection was there, so the request may have arrived
}

func (e *unreachableError) Error() string { return "cannot reach the proxy: " + e.err.Error() }

func (e *unreachableError) Unwrap() error { return e.err }

// cost reports whether the attempt may have cost the CA an order.
func (k *Kept) cost(failure error) bool {
	var e *unreachableError
	return !k.Mode.IsUnattended() && (!errors.As(failure, &e) || e.sent)
}

// unpark drops times that a wrong clock wrote. All of them are times of retries,
// so the end of the certificate says nothing about them.
func (k *Kept) unpark(now time.Time) {
	for _, at := range []*time.Time{&k.NextAttempt, &k.AskAgain} {
		if cert.IsParked(*at, time.Time{}, now) {
			*at = time.Time{}
		}
	}
}

// news is what ends a delay.
type news int

const (
	answered news = iota // the proxy answered
	obtained             // the gateway brought a certificate, so the CA works
	kinds
)

// delays are those that the next success ends: of certificates that could not
// reach the proxy, and of those that failed with the CA for a temporary reason.
// It may be used concurrently.
type delays struct {
	wake chan struct{} // has an entry when released may have something; nil if no one waits

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

// happened ends the delays that wait for n.
func (d *delays) happened(n news) {
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

// wait has a certificate wait for n, unless it does so already.
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

// missed is the delay after one more attempt that did not reach the proxy.
func (d *delays) missed(path string, longest time.Duration) time.Duration {
	const first, doublings = 2 * time.Second, 12
	d.mu.Lock()
	defer d.mu.Unlock()
	d.waitLocked(path, answered)
	n := min(d.misses[path], doublings)
	d.misses[path] = n + 1
	delay := min(first<<n, longest)
	return delay - rand.N(delay/10+1)
}

// reached forgets the attempts that did not reach the proxy.
func (d *delays) reached(path string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.misses, path)
	delete(d.waiting, path)
}

// released returns the certificates whose delay has ended.
func (d *delays) released() (paths []string) {
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

// takeEased reports, once, whether a certificate need not wait for its next
// attempt because the CA works again.
func (d *delays) takeEased(path string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	eased := d.eased[path]
	delete(d.eased, path)
	return eased
}

// isTemporary reports whether the proxy or the CA behind it may soon be well.
func isTemporary(failure error) bool {
	var e *acme.Error
	var p *api.Problem
	return errors.As(failure, &e) && e.Kind == acme.Temporary || errors.As(failure, &p) && p.Status >= 500
}

// failed notes a failure and returns the delay. eased tells that an earlier
// delay has just been ended: the next one then lasts, as the cause may be the
// certificate's own.
func (d *daemon) failed(k *Kept, failure error, eased bool) time.Time {
	now, poll := time.Now(), d.poll()
	k.LastError, k.Transient = failure.Error(), false
	var e *unreachableError
	if errors.As(failure, &e) && !k.cost(failure) {
		k.NextAttempt = time.Time{}
		return now.Add(d.delays.missed(k.path, poll))
	}
	d.delays.reached(k.path)
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
