package api

import (
	"net/http"
	"strings"
	"unicode/utf8"
)

// IsText reports whether s is UTF-8 without NUL. Names, IDs and all other texts of the
// API must be, because a database may refuse others.
func IsText(s string) bool { return utf8.ValidString(s) && !strings.ContainsRune(s, 0) }

// CheckText returns the status, the field and the detail of a problem if the path or
// the query of a request is not text (see IsText). Otherwise status is 0.
func CheckText(r *http.Request) (status int, field, detail string) {
	if !IsText(r.URL.Path) {
		return http.StatusNotFound, "path", "path: it is not UTF-8, or has a NUL; there is nothing at such a path"
	}
	for key, values := range r.URL.Query() {
		for _, v := range values {
			if !IsText(v) {
				field = queryField(key)
				return http.StatusUnprocessableEntity, field, field + ": it is not UTF-8, or has a NUL; use UTF-8 text"
			}
		}
	}
	return 0, "", ""
}

// queryField returns the field name of a query parameter. It includes the parameter's
// name only if that could be one of the API, so that no other text is echoed.
func queryField(key string) string {
	const longest = 16
	ours := key != "" && len(key) <= longest && strings.Trim(key, "abcdefghijklmnopqrstuvwxyz") == ""
	if !ours {
		return "query"
	}
	return "query." + key
}
