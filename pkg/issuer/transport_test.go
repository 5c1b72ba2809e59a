package issuer

import (
	"net/http"
	"testing"
	"time"
)

// A date in Retry-After is relative to the answer's Date. Without a Date it is
// relative to our clock.
func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	at := func(t time.Time) string { return t.Format(http.TimeFormat) }
	for name, c := range map[string]struct {
		value, date string
		want        time.Time
	}{
		"none":                      {"", at(now), time.Time{}},
		"seconds":                   {" 90 ", at(now.Add(-5 * time.Hour)), now.Add(90 * time.Second)},
		"negative":                  {"-1", at(now), time.Time{}},
		"junk":                      {"soon", at(now), time.Time{}},
		"date, same clock":          {at(now.Add(time.Hour)), at(now), now.Add(time.Hour)},
		"date, our clock is ahead":  {at(now.Add(-2 * time.Hour)), at(now.Add(-3 * time.Hour)), now.Add(time.Hour)},
		"date, our clock is behind": {at(now.Add(4 * time.Hour)), at(now.Add(3 * time.Hour)), now.Add(time.Hour)},
		"date of RFC 850":           {"Friday, 01-May-26 13:00:00 GMT", "Fri May  1 12:30:00 2026", now.Add(30 * time.Minute)},
		"date, over":                {at(now), at(now.Add(time.Hour)), now.Add(-time.Hour)},
		"no Date":                   {at(now.Add(time.Hour)), "", now.Add(time.Hour)},
		"Date is junk":              {at(now.Add(time.Hour)), "today", now.Add(time.Hour)},
		"date, far too long":        {at(now.AddDate(9, 0, 0)), at(now), now.Add(latestRetryAfter)},
		"date, centuries apart":     {"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT", now.Add(latestRetryAfter)},
		"date, centuries ago":       {"Mon, 01 Jan 0001 00:00:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", now.Add(-1 << 63)},
	} {
		t.Run(name, func(t *testing.T) {
			h := http.Header{"Retry-After": {c.value}, "Date": {c.date}}
			if got := parseRetryAfter(h, now); !got.Equal(c.want) {
				t.Errorf("got %v, want %v", got, c.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	f.Add("90", "")
	f.Add("Fri, 01 May 2026 13:00:00 GMT", "Fri, 01 May 2026 12:00:00 GMT")
	f.Add("Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT")
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if at := parseRetryAfter(h, now); at.After(now.Add(latestRetryAfter)) {
			t.Errorf("%q with the Date %q is %v, which is too late", value, date, at)
		}
	})
}
