package work

import (
	"errors"
	"io/fs"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

// permanentSteps holds the waits after failures that a person must fix first. Its
// few attempts keep a wrong DNS record from using up the CA's limits.
var permanentSteps = []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}

const (
	temporaryFirst = 10 * time.Second
	temporaryMost  = time.Hour
	limitedDefault = time.Hour // when the CA did not say

	// Faults of this host cost the CA nothing.
	localLeast = 5 * time.Second
	localMost  = 30 * time.Second

	// A delay is at most this share of the certificate's remaining life, but the
	// CA's limits, such as five failed validations an hour, still count.
	lifeShare      = 10
	leastTemporary = time.Minute
	leastOther     = 15 * time.Minute
)

// RetryAt returns the time of the next attempt after a failure that follows
// failures others. notAfter is the end of the present certificate, or zero without
// one. A later time that the CA asks for takes precedence.
func RetryAt(now time.Time, failures int, notAfter time.Time, cause error) time.Time {
	if IsLocal(cause) {
		return now.Add(localLeast + rand.N(1+localMost-localLeast))
	}
	wait := permanentSteps[min(failures, len(permanentSteps)-1)]
	var e *acme.Error
	if !errors.As(cause, &e) {
		return now.Add(spread(atMostShare(wait, notAfter.Sub(now), leastOther)))
	}
	limited, least := e.Kind == acme.RateLimited, leastOther
	switch {
	case limited:
		wait = max(wait, limitedDefault)
	case e.Kind == acme.Temporary:
		wait = min(temporaryFirst<<min(failures, 16), temporaryMost)
		least = leastTemporary
	}
	at := now.Add(spread(atMostShare(wait, notAfter.Sub(now), least)))
	if e.RetryAt.After(at) || limited && e.RetryAt.After(now) {
		// Certificates for which the CA asked the same are spread.
		at = e.RetryAt.Add(rand.N(1 + min(e.RetryAt.Sub(now)/10, time.Hour)))
	}
	if latest := now.Add(cert.LongestWait); at.After(latest) {
		return latest // the store takes later times for those of a wrong clock
	}
	return at // a RetryAt in the past is ignored, because the clocks differ
}

// WaitUntil returns the earliest attempt that the CA allows after a failure, or zero
// if it did not ask to wait. retryAt is from RetryAt, which knows how long to wait if
// the CA limits its clients without a time.
func WaitUntil(now, retryAt time.Time, cause error) time.Time {
	var e *acme.Error
	switch {
	case IsLocal(cause) || !errors.As(cause, &e):
		return time.Time{}
	case e.RetryAt.After(retryAt):
		return retryAt // RetryAt has bounded it
	case e.RetryAt.After(now):
		return e.RetryAt
	case e.Kind == acme.RateLimited:
		return retryAt
	}
	return time.Time{}
}

// atMostShare bounds a wait by a share of the certificate's remaining life. A
// certificate that has expired or is missing sets no bound.
func atMostShare(wait, remaining, least time.Duration) time.Duration {
	if remaining <= 0 {
		return wait
	}
	return min(wait, max(remaining/lifeShare, least))
}

// IsTransient reports whether a failure may end as soon as the CA works again:
// a temporary one that is not this host's fault and for which the CA did not ask
// for a wait.
func IsTransient(now time.Time, cause error) bool {
	var e *acme.Error
	return !IsLocal(cause) && errors.As(cause, &e) && e.Kind == acme.Temporary && !e.RetryAt.After(now)
}

// IsLocal reports whether a failure is this host's own: of its database or its
// disk, or a postponed attempt.
func IsLocal(cause error) bool {
	for _, fault := range []error{syscall.ENOSPC, syscall.EDQUOT, syscall.EROFS, syscall.EIO} {
		if errors.Is(cause, fault) {
			return true
		}
	}
	var e *acme.Error
	var path *fs.PathError
	var link *os.LinkError
	if errors.As(cause, new(*managed.Postponed)) {
		return true
	}
	return managed.IsFault(cause) || !errors.As(cause, &e) && (errors.As(cause, &path) || errors.As(cause, &link))
}

// failure describes a failed attempt to the store.
func (h *Hold) failure(now time.Time, cause error) managed.Failure {
	f := managed.Failure{Reason: cause.Error(), Plain: plain(cause), RetryAt: RetryAt(now, h.Failures, h.NotAfter, cause), Local: IsLocal(cause)}
	f.WaitUntil = WaitUntil(now, f.RetryAt, cause)
	f.RetryAt, f.Tried = AfterTry(now, h.Failures, h.Planned, f.RetryAt, f.WaitUntil)
	if IsTransient(now, cause) {
		f.With = h.CA
	}
	return f
}

// AfterTry returns the time of the next attempt after a failure, and whether a person
// caused the attempt, so that it must not lengthen the delays. planned is the time of the
// program's own next attempt, or zero if the failed attempt was that. An attempt that
// outlasts this time replaces the planned one. waitUntil is the CA's wish, or zero.
func AfterTry(now time.Time, failures int, planned, retryAt, waitUntil time.Time) (at time.Time, tried bool) {
	switch {
	case failures == 0 || !planned.After(now):
		return retryAt, false
	case planned.Before(retryAt) && !planned.Before(waitUntil):
		return planned, true
	}
	return retryAt, true
}

// plain returns what a client may read of a failure; empty if only the
// administrator may read it.
func plain(cause error) string {
	var public interface{ ForClient() string }
	if errors.As(cause, &public) {
		return public.ForClient()
	}
	return ""
}

// spread shortens d by up to a tenth, so that attempts that failed together are
// not repeated together.
func spread(d time.Duration) time.Duration { return d - rand.N(1+d/10) }
