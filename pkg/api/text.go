package api

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// IsText reports whether s is UTF-8 without NUL. Nothing else can be a name, an
// id or any other text here, and a database may refuse it.
func IsText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// CheckText returns the status, the field and the detail of the problem with a
// request whose path or query is no text; status 0 if both are.
func CheckText(r *http.Request) (status int, field, detail string) {
	if !IsText(r.URL.Path) {
		return http.StatusNotFound, "path", "path: it is not UTF-8, or has a NUL; there is nothing at such a path"
	}
	for key, values := range r.URL.Query() {
		for _, v := range values {
			if !IsText(v) {
				field = queryField(key)
				return http.StatusUnprocessableEntity, field, field + ": it is not UTF-8, or has a NUL; write it as text"
			}
		}
	}
	return 0, "", ""
}

// queryField names a parameter only if its name could be one of ours: nothing
// else of a request is repeated.
func queryField(key string) string {
	const longest = 16
	ours := key != "" && len(key) <= longest && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz") == ""
	if !ours {
		return "query"
	}
	return "query." + key
}
