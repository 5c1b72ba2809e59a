package e2e

import (
	"net/http"
	"sync"
)

// answers serves the answers to http-01 challenges, for clients that leave this to the
// caller.
type answers struct{ byPath sync.Map }

func (a *answers) set(path, answer string) { a.byPath.Store(path, answer) }

func (a *answers) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, ok := a.byPath.Load(r.URL.Path)
	if !ok {
		http.NotFound(w, r)
		return
	}
	_, _ = w.Write([]byte(answer.(string)))
}
