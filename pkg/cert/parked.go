package cert

import "time"

// LongestWait bounds the delay before an attempt. The longest rate limits of
// public CAs last a week.
const LongestWait = 8 * 24 * time.Hour

// IsParked reports whether a stored time cannot be meant: it is later than both
// the certificate's end, zero if there is no certificate, and [LongestWait] from
// now. A clock that is years off writes such times. Treat it as due now.
func IsParked(at, notAfter, now time.Time) bool {
	return at.After(notAfter) && at.After(now.Add(LongestWait))
}
