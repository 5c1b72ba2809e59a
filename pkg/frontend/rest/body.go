package rest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"

	"github.com/danielgtaylor/huma/v2"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// whole reads the body, of a request that should have none too, while the
// server's limits of size and time count: the handlers take the latter off,
// and a body that is still on its way would keep net/http from noticing that
// the client is gone.
func (f *frontend) whole(w http.ResponseWriter, r *http.Request) bool {
	body, err := io.ReadAll(r.Body)
	var large *http.MaxBytesError
	switch {
	case err == nil:
		r.Body = io.NopCloser(bytes.NewReader(body))
		return true
	case errors.As(err, &large):
		f.writeProblem(w, fieldProblem(http.StatusRequestEntityTooLarge, "body", fmt.Sprintf("body: larger than %d bytes", api.MaxRequest)))
	case errors.Is(err, os.ErrDeadlineExceeded):
		f.writeProblem(w, huma.NewError(http.StatusRequestTimeout, "body: it did not come in time"))
	default:
		f.writeProblem(w, fieldProblem(http.StatusBadRequest, "body", "body: cut off, or sent in a way that cannot be read"))
	}
	return false
}
