package acme

import "strings"

// Shorten makes one line of a text from outside and bounds its length, for the
// Detail of an Error: a CA or a DNS server must not fill a log.
func Shorten(s string) string {
	const limit = 1024
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
