package fallback

import "strings"

// isOurs reports whether a request's field speaks for the connection or for
// where the request comes from, which no client may. A backend that follows CGI
// takes X_Forwarded_For for X-Forwarded-For, so every character that is neither
// letter nor digit stands for a hyphen, and case does not count.
func isOurs(name string) bool {
	name = strings.Map(func(c rune) rune {
		switch {
		case 'A' <= c && c <= 'Z':
			return c + 'a' - 'A'
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9':
			return c
		}
		return '-'
	}, name)
	switch name {
	case "x-forwarded", "forwarded", "x-real-ip",
		"proxy", // HTTP_PROXY to a CGI program
		"connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
		"proxy-connection", "proxy-authenticate", "proxy-authorization":
		return true
	}
	// The others that net/http reads itself, in a spelling that it does not read.
	return strings.HasPrefix(name, "x-forwarded-")
}
