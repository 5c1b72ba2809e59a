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
	switch e.Kind {
	case issuer.Temporary:
		wait = min(temporaryFirst<<min(failures, 16), temporaryMost)
	case issuer.RateLimited:
		wait = max(wait, limitedDefault)
		if !e.RetryAt.IsZero() {
			wait = 0
		}
	case issuer.Permanent:
	}
	at := now.Add(spread(wait))
	if e.RetryAt.After(at) {
		at = e.RetryAt
	}
	return at
}

// spread takes up to a tenth off, so that what failed together does not come
// back together.
func spread(d time.Duration) time.Duration { return d - random(d/10) }
