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

// One failed request must not end an issuance. read and repeat repeat requests that
// are idempotent. flow and authorize read the resource again before they send a
// challenge or a finalization a second time. Nothing else repeats requests.
const (
	firstPause = 100 * time.Millisecond
	lastPause  = 3 * time.Second
	maxRepeats = 5 // three seconds in total
	maxMissing = 3 // repeats after a 404, for a resource that was just created

	// spareNonces limits the bad nonces of one issuance, in addition to one for every
	// two requests that the CA answered. All known nonces become bad when a CA
	// restarts.
	spareNonces = 2 * maxParallel

	maxRetryAfter    = 30 * time.Second // a longer Retry-After ends the attempt
	maxRateLimitWait = 10 * time.Second // the same for a rate limit
)

// repeat calls do until it succeeds, or until again or pause returns false.
func repeat[T any](s *session, again func(error) bool, do func() (T, error)) (T, error) {
	for n := 0; ; n++ {
		v, err := do()
		if err == nil || !again(err) || !s.pause(n, err) {
			return v, err
		}
	}
}

// read calls do and repeats it after a transient error. do must change nothing.
func read[T any](s *session, do func() (T, error)) (T, error) { return repeat(s, isTransient, do) }

// pause waits before a request is repeated for the n-th time. It reports false if
// the request must not be repeated: the limit is reached, the CA asks for a longer
// pause, or the issuance ends before.
func (s *session) pause(n int, err error) bool {
	delay := min(firstPause<<min(n, 10), lastPause)
	delay = delay/2 + rand.N(delay)
	most := maxRepeats
	if isProblem(err, acme.BadNonce) {
		if !s.spareNonce() {
			return false
		}
		if n == 0 { // the answer contained a good one
			delay = 0
		}
	}
	if statusOf(err) == http.StatusNotFound {
		most = maxMissing
	}
	if n >= most {
		return false
	}
	asked, limited := s.requestedWait(err)
	switch {
	case limited && (asked <= 0 || asked > maxRateLimitWait), asked > maxRetryAfter:
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

// requestedWait returns the remaining time of a refusal's Retry-After, and whether
// the refusal is a rate limit.
func (s *session) requestedWait(err error) (wait time.Duration, limited bool) {
	var r *refusal
	if !errors.As(err, &r) {
		return 0, false
	}
	if !r.retryAt.IsZero() {
		wait = r.retryAt.Sub(s.now())
	}
	return wait, kindOf(&r.problem) == acme.RateLimited
}

// exhausted marks the error of a request that was repeated already, so that an outer
// request is not repeated for it.
type exhausted struct{ error }

func (e exhausted) Unwrap() error { return e.error }

// isTransient reports whether the same request may succeed soon. A 404 is transient,
// because another of the CA's servers may have created the resource.
func isTransient(err error) bool {
	var own *acme.Error
	var done exhausted
	if err == nil || errors.As(err, &own) || errors.As(err, &done) || isContext(err) || isTrust(err) {
		return false
	}
	var r *refusal
	if errors.As(err, &r) {
		return r.problem.Status == http.StatusNotFound || kindOf(&r.problem) != acme.Permanent
	}
	return true // cut off, or not as RFC 8555 describes
}

// mayBeHandled reports whether the CA may have handled a failed request: its answer
// was lost, or came from a gateway in front of the CA.
func mayBeHandled(err error) bool {
	var r *refusal
	if errors.As(err, &r) {
		return r.page && r.problem.Status >= 500 && r.problem.Status != http.StatusServiceUnavailable
	}
	var dial *net.OpError
	return !errors.As(err, &dial) || dial.Op != "dial"
}

// isUnanswered reports whether lego received no answer.
func isUnanswered(err error) bool {
	var sent *url.Error
	return errors.As(err, &sent)
}

func isContext(err error) bool {
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// isTrust reports whether the peer's certificate is not the CA's, which no retry can
// fix.
func isTrust(err error) bool {
	var verification *tls.CertificateVerificationError
	var unknown x509.UnknownAuthorityError
	var hostname x509.HostnameError
	return errors.As(err, &verification) || errors.As(err, &unknown) || errors.As(err, &hostname)
}
