package cert

import "time"

// LongestWait limits the delay before an attempt. The longest rate limits of public
// CAs last a week.
const LongestWait = 8 * 24 * time.Hour

// IsParked reports whether a stored time is invalid: later than both the
// certificate's end and [LongestWait] from now. Without a certificate, notAfter is
// zero. A clock that is years off writes such times. Treat the row as due now.
func IsParked(at, notAfter, now time.Time) bool {
	return at.After(notAfter) && at.After(now.Add(LongestWait))
}
