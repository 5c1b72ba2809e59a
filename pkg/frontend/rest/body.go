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

// whole reads the body, of a request that should have none too, while the
// server's limits of size and time count: the handlers take the latter off,
// and a body that is still on its way would keep net/http from noticing that
// the client is gone.
func (f *frontend) readBody(w http.ResponseWriter, r *http.Request) bool {
	if r.Header.Get("Content-Encoding") != "" {
		f.writeProblem(w, huma.NewError(http.StatusUnsupportedMediaType, "body: it is compressed, or otherwise encoded; send it as it is"))
		return false
	}
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case err == nil && hasRepeatedMember(body):
		f.writeProblem(w, fieldProblem(http.StatusBadRequest, "body", "body: a field is there twice, in one case or another; write it once"))
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		return true
	case errors.As(err, &large):
		f.writeProblem(w, fieldProblem(http.StatusRequestEntityTooLarge, "body", fmt.Sprintf("body: larger than %d bytes", large.Limit)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.writeProblem(w, huma.NewError(http.StatusRequestTimeout, "body: it did not come in time"))
	default:
		f.writeProblem(w, fieldProblem(http.StatusBadRequest, "body", "body: cut off, or sent in a way that cannot be read"))
	}
	return false
}

// wholeOfClient is whole for a known client. It reads few bodies of one client at
// a time: those that come slowly would fill the memory. Others wait.
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
		f.writeProblem(w, retryLater(http.StatusServiceUnavailable, "too many requests with a body are under way; try again soon"))
		return false
	}
	defer release()
	return f.readBody(w, r)
}

// textOnly refuses a request whose path or query is no text.
func (f *frontend) textOnly(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if status, field, detail := api.CheckText(r); status != 0 {
			f.answerStranger(w, r, strangersOfConn, func() { f.writeProblem(w, fieldProblem(status, field, detail)) })
			return
		}
		next.ServeHTTP(w, r)
	})
}

// repeats tells whether an object in a JSON text has a member twice, in any
// case, as the decoder reads them. Of such two it takes one, whoever looked at
// the text before us perhaps the other. What is not JSON is for the decoder.
func hasRepeatedMember(text []byte) bool {
	in := json.NewDecoder(bytes.NewReader(text))
	var open []map[string]bool // members of the objects that are open; nil: an array
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
