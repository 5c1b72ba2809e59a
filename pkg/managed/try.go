package managed

import (
	"fmt"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Tries limits the attempts that people cause for a failing certificate, by client and
// name set. The zero value allows none.
type Tries struct {
	Hourly int // within 60 minutes
	Daily  int // within 24 hours
}

// Try describes a person's wish that a certificate is attempted now.
type Try struct {
	Tries Tries // limit for a failing certificate
	// Pause limits the renewals of a certificate that is not failing. If its Every is
	// 0, such a certificate is left alone.
	Pause Pause
	// Check only reports whether the attempt would be allowed. Nothing changes.
	Check bool
}

// Reason is why an attempt may not begin yet.
type Reason string

// The reasons of NotNow.
const (
	CAWaits    Reason = "the CA asks to wait"
	ProxyWaits Reason = "the proxy asks to wait" // in a remote
	TriesUsed  Reason = "tries used"
	OrdersUsed Reason = "orders used"
)

// Next returns the earliest attempt after earlier ones, given oldest first: now, or a
// later time with the limit that is used up and its period. Times in the future are of
// a wrong clock and do not count.
func (t Tries) Next(earlier []time.Time, now time.Time) (at time.Time, most int, per time.Duration) {
	at = now
	for _, limit := range []struct {
		most int
		per  time.Duration
	}{{t.Hourly, time.Hour}, {t.Daily, 24 * time.Hour}} {
		var counted []time.Time
		for _, e := range earlier {
			if !e.After(now) && now.Sub(e) < limit.per {
				counted = append(counted, e)
			}
		}
		free := now.Add(limit.per)
		switch {
		case len(counted) < limit.most:
			continue
		case limit.most > 0:
			free = counted[len(counted)-limit.most].Add(limit.per)
		}
		if free.After(at) {
			at, most, per = free, limit.most, limit.per
		}
	}
	return at, most, per
}

// NotNow is the error that an attempt may not begin yet.
type NotNow struct {
	Reason Reason
	// Most and Per describe the limit with TriesUsed: so many attempts in that time.
	Most int
	Per  time.Duration
	At   time.Time // when to ask again; with CAWaits and ProxyWaits, the next attempt
}

func (e *NotNow) Error() string {
	return e.Because() + "; the next attempt is possible at " + printable.Time(e.At)
}

// Because returns the reason as a text, without the time.
func (e *NotNow) Because() string {
	switch e.Reason {
	case CAWaits, ProxyWaits:
		return string(e.Reason)
	case TriesUsed:
		per := "an hour"
		if e.Per > time.Hour {
			per = "a day"
		}
		return fmt.Sprintf("%d attempts were requested within %s and failed", e.Most, per)
	}
	return "these names were requested several times within a short time"
}
