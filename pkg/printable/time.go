package printable

import "time"

// Time returns a point in time as our messages show it, in UTC, to the second. The
// tables of the command line use the same form to the minute.
func Time(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05 UTC") }
