package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// readBody reads the whole body while the server's limits of size and time apply. It
// also does so for requests that should have no body. Handlers remove the time limits.
// While a body is pending, net/http does not notice that the client has disconnected.
func (f *frontend) readBody(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Encoding") != "" {
		f.writeProblem(w, huma.NewError(http.StatusUnsupportedMediaType, "body: compressed or otherwise encoded; send it without Content-Encoding"))
		return false
	}
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case err == nil && hasRepeatedMember(body):
		f.writeProblem(w, fieldProblem(http.StatusBadRequest, "body", "body: a field appears twice, in the same or another case; write it once"))
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		return true
	case errors.As(err, &large):
		f.writeProblem(w, fieldProblem(http.StatusRequestEntityTooLarge, "body", fmt.Sprintf("body: larger than %d bytes", large.Limit)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.writeProblem(w, huma.NewError(http.StatusRequestTimeout, "body: did not arrive in time"))
	default:
		f.writeProblem(w, fieldProblem(http.StatusBadRequest, "body", "body: truncated or malformed"))
	}
	return false
}

// readClientBody reads the body of a known client's request. It limits the number of
// concurrent bodies of one client, because slow ones would fill the memory. Others wait.
func (f *frontend) readClientBody(w http.ResponseWriter, r *http.Request, clientID string) bool {
	if r.ContentLength == 0 {
		return f.readBody(w, r)
	}
	end, err := f.bodies.begin(clientID)
	if err != nil {
		f.writeProblem(w, err)
		return false
	}
	defer end()
	ctx, cancel := context.WithTimeout(r.Context(), bodyWait)
	defer cancel()
	release, err := f.reading.Acquire(ctx, clientID, nil)
	if err != nil {
		f.writeProblem(w, retryLater(http.StatusServiceUnavailable, "too many requests with a body are in progress; try again soon"))
		return false
	}
	defer release()
	return f.readBody(w, r)
}

// textOnly refuses a request whose path or query is not valid text.
func (f *frontend) textOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, field, detail := api.CheckText(r); status != 0 {
			f.answerStranger(w, r, strangersOfConn, func() { f.writeProblem(w, fieldProblem(status, field, detail)) })
			return
		}
		next.ServeHTTP(w, r)
	})
}

// hasRepeatedMember reports whether an object in a JSON text has a member twice. It
// ignores case, as the decoder does. The decoder would use one of the two, and a filter
// in front of the proxy perhaps the other. It returns false for invalid JSON, which the
// decoder reports.
func hasRepeatedMember(text []byte) bool {
	in := json.NewDecoder(bytes.NewReader(text))
	var open []map[string]bool // members of the open objects; nil for an array
	name := false              // the next string is a member's name
	for {
		token, err := in.Token()
		if err != nil {
			return false
		}
		var members map[string]bool
		if len(open) > 0 {
			members = open[len(open)-1]
		}
		switch t := token.(type) {
		case json.Delim:
			switch t {
			case '{':
				open = append(open, map[string]bool{})
			case '[':
				open = append(open, nil)
			default:
				open = open[:len(open)-1]
			}
			name = len(open) > 0 && open[len(open)-1] != nil
			continue
		case string:
			if name {
				folded := strings.ToLower(strings.ToUpper(t))
				if members[folded] {
					return true
				}
				members[folded] = true
				name = false
				continue
			}
		}
		name = members != nil
	}
}
