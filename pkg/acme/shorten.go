package acme

import "strings"

// Shorten joins the lines of an external text and limits its length, for the Detail
// of an Error. So a CA or a DNS server cannot fill a log.
func Shorten(s string) string {
	const limit = 1024
	s = strings.Join(strings.Fields(s), " ")
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	return strings.ToValidUTF8(s, "?")
}
