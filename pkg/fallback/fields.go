package fallback

import "strings"

// isOurs reports whether a request's field describes the connection or the request's
// origin. No client may set such a field. A backend that follows CGI treats
// X_Forwarded_For like X-Forwarded-For, so every character that is neither letter
// nor digit matches a hyphen, and case is ignored.
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
	// The rest of the X-Forwarded family.
	return strings.HasPrefix(name, "x-forwarded-")
}
