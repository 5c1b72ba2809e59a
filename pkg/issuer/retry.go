package issuer

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// One odd answer must not decide. Requests to the CA are repeated here and
// nowhere else: reads and requests that change nothing when they come twice by
// read and repeat; flow and authorize read the resource again before they send
// a challenge or a finalization a second time.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
	maxRepeats = 5 // three seconds in all
	maxMissing = 3 // 404s right after something was created

	// spareNonces bounds the bad nonces of one issuance: that many, and one for each
	// two requests that the CA answered. All known nonces are bad at once when a CA
	// starts again.
	spareNonces = 2 * atOnce

	longestPause = 30 * time.Second // a longer Retry-After ends the attempt
	longestLimit = 10 * time.Second // the same, of a rate limit
)

// repeat calls do until it succeeds, until again says no, or until the CA has
// had its chances.
func repeat[T any](s *session, again func(error) bool, do func() (T, error)) (T, error) {
	for n := 0; ; n++ {
		v, err := do()
		if err == nil || !again(err) || !s.pause(n, err) {
			return v, err
		}
	}
}

// read repeats a request that changes nothing.
func read[T any](s *session, do func() (T, error)) (T, error) { return repeat(s, transient, do) }

// pause waits before a request is repeated for the n-th time. It reports false
// if there was no use in that: it was repeated often enough, the CA asks for a
// longer pause, or the issuance is over before.
func (s *session) pause(n int, err error) bool {
	delay := min(firstPause<<min(n, 10), lastPause)
	delay = delay/2 + rand.N(delay)
	most := maxRepeats
	if isProblem(err, acme.BadNonce) {
		if !s.spareNonce() {
			return false
		}
		if n == 0 { // the answer brought a good one
			delay = 0
		}
	}
	if statusOf(err) == http.StatusNotFound {
		most = maxMissing
	}
	if n >= most {
		return false
	}
	asked, limited := s.asked(err)
	switch {
	case limited && (asked <= 0 || asked > longestLimit), asked > longestPause:
		return false
	case asked > delay:
		delay = asked + rand.N(firstPause)
	}
	if deadline, ok := s.ctx.Deadline(); ok && time.Until(deadline) < delay {
		return false
	}
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.ctx.Done():
		return false
	}
}

// spareNonce counts a bad nonce. It reports false if there were too many in this
// issuance.
func (s *session) spareNonce() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.badNonces++
	return s.badNonces <= spareNonces+s.answered/2
}

// asked returns what the Retry-After of a refusal leaves to wait, and whether
// the refusal is a rate limit.
func (s *session) asked(err error) (wait time.Duration, limited bool) {
	var r *refusal
	if !errors.As(err, &r) {
		return 0, false
	}
	if !r.retryAt.IsZero() {
		wait = r.retryAt.Sub(s.now())
	}
	return wait, kindOf(&r.problem) == acme.RateLimited
}

// exhausted marks an error of a request that was repeated already, as a part of
// another one.
type exhausted struct{ error }

func (e exhausted) Unwrap() error { return e.error }

// transient reports whether the same request may succeed in a moment. What is
// unknown to one of the CA's servers may be known to another, which created it.
func transient(err error) bool {
	var own *acme.Error
	var done exhausted
	if err == nil || errors.As(err, &own) || errors.As(err, &done) || isContext(err) || isTrust(err) {
		return false
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.problem.Status == http.StatusNotFound || kindOf(&r.problem) != acme.Permanent
	}
	return true // cut off, or not what RFC 8555 describes
}

// unclear reports whether a failed request may have been handled all the same:
// its answer was lost on the way, or a gateway in front of the CA made one up.
func unclear(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.page && r.problem.Status >= 500 && r.problem.Status != http.StatusServiceUnavailable
	}
	var dial *net.OpError
	return !errors.As(err, &dial) || dial.Op != "dial"
}

// unanswered reports whether lego got no answer that it could have looked into.
func unanswered(err error) bool {
	var sent *url.Error
	return errors.As(err, &sent)
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isTrust reports whether the other end is not the CA: no repetition helps.
func isTrust(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &hostname)
}
