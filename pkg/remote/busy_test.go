package remote

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
)

// A proxy that is busy is asked again for a minute, as often as it says, and
// that ends with the context. Other refusals are final (X41).
func TestWhileBusy(t *testing.T) {
	t.Parallel()
	busy := &api.Problem{Status: http.StatusServiceUnavailable, RetryAfter: 5}
	limited := &api.Problem{Status: http.StatusTooManyRequests, RetryAfter: 50}
	for name, test := range map[string]struct {
		answers []error // the last one is repeated
		asked   int
		took    time.Duration
	}{
		"at once":        {[]error{nil}, 1, 0},
		"busy, then not": {[]error{busy, limited, nil}, 3, 55 * time.Second},
		"busy for ever":  {[]error{busy}, 13, time.Minute},
		"for too long":   {[]error{limited}, 2, 50 * time.Second},
		"not for us":     {[]error{&api.Problem{Status: http.StatusUnauthorized, RetryAfter: 5}}, 1, 0},
		"no time said":   {[]error{&api.Problem{Status: http.StatusServiceUnavailable}}, 1, 0},
		"no answer":      {[]error{errors.New("refused")}, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				begun, asked, told := time.Now(), 0, 0
				var last error
				err := retryWhileBusy(t.Context(), time.Minute, func(time.Duration) { told++ }, func() error {
					last = test.answers[min(asked, len(test.answers)-1)]
					asked++
					return last
				})
				if !errors.Is(err, last) || asked != test.asked || told != asked-1 || time.Since(begun) != test.took {
					t.Errorf("%v; asked %d times, told %d times, in %v", err, asked, told, time.Since(begun))
				}
			})
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	err := retryWhileBusy(ctx, time.Minute, nil, func() error { cancel(); return busy })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// An enrolment succeeds at a proxy that has no place for it at first (X41).
func TestEnrollWhileBusy(t *testing.T) {
	t.Parallel()
	e := newEvil(t)
	asked := 0
	e.on("POST "+api.PathEnroll, func(w http.ResponseWriter, r *http.Request) {
		if asked++; asked == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		jsonAnswer(http.StatusCreated, api.Client{Name: "web1"})(w, r)
	})
	told := 0
	s, err := Enroll(t.Context(), t.TempDir(), "test", auth.EnrollToken{URL: e.URL, ProxyPin: e.pin}, EnrollOptions{Busy: func(time.Duration) { told++ }})
	if err != nil || s.Client() != "web1" || told != 1 {
		t.Errorf("%v; told %d times", err, told)
	}
}
