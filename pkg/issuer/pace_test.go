package issuer

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// A Retry-After on an answer that is not a refusal delays the next poll by two
// minutes at most, and delays no later attempt. ZeroSSL sends a day and finishes in
// seconds.
func TestLongRetryAfterOfAPoll(t *testing.T) {
	for name, c := range map[string]struct{ asked, least, most time.Duration }{
		"a day":   {24 * time.Hour, longWait, longWait},
		"an hour": {time.Hour, longWait, longWait},
		"short":   {15 * time.Second, 15 * time.Second, 15 * time.Second},
		"over":    {-time.Hour, 0, lastPoll},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := new(pace).newPoller()
				begun := time.Now()
				if err := p.wait(t.Context(), "poll", begun.Add(c.asked), time.Now); err != nil {
					t.Fatal(err)
				}
				if took := time.Since(begun); took < c.least || took > c.most {
					t.Errorf("the next poll came after %s, want %s to %s", took, c.least, c.most)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
				defer cancel()
				var failed *acme.Error
				err := p.wait(ctx, "poll", time.Now().Add(c.asked), time.Now)
				if !errors.As(err, &failed) || failed.Kind != acme.Temporary || failed.RetryAt.After(time.Now().Add(longWait)) {
					t.Errorf("the attempt ended with %+v, want no delay of the next one", err)
				}
			})
		})
	}
}
