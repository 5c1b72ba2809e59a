package renewal

import (
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// permanentSteps are the waits after failures that somebody must mend: few
// enough that a wrong DNS record does not use up the CA's limits.
var permanentSteps = []time.Duration{time.Minute, 10 * time.Minute, 100 * time.Minute, 24 * time.Hour}

const (
	temporaryFirst = 10 * time.Second
	temporaryMost  = time.Hour
	limitedDefault = time.Hour // when the CA did not say
)

// RetryAt is when to try again after a failure that follows failures others.
// What the CA asks for always wins, if it is later.
func RetryAt(now time.Time, failures int, cause error) time.Time {
	wait := permanentSteps[min(failures, len(permanentSteps)-1)]
	var e *issuer.Error
	if !errors.As(cause, &e) {
		return now.Add(spread(wait))
	}
	limited := e.Kind == issuer.RateLimited
	switch {
	case limited:
		wait = max(wait, limitedDefault)
	case e.Kind == issuer.Temporary:
		wait = min(temporaryFirst<<min(failures, 16), temporaryMost)
	}
	at := now.Add(spread(wait))
	if e.RetryAt.After(at) || limited && e.RetryAt.After(now) {
		// Those who were told the same come back one by one.
		return e.RetryAt.Add(random(min(e.RetryAt.Sub(now)/10, time.Hour)))
	}
	return at // a moment that is over says nothing: the clocks differ
}

// spread takes up to a tenth off, so that what failed together does not come
// back together.
func spread(d time.Duration) time.Duration { return d - random(d/10) }
