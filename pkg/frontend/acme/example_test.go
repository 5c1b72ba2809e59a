package acme_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/acme"
)

func ExampleNew() {
	handle := func(mux *http.ServeMux, server http.Handler) {
		mux.Handle("/acme/", acme.New(acme.Config{Server: func() http.Handler { return server }}))
	}
	_ = handle
}

// Without a public URL, the door answers with the reason. A large body is refused before
// the Server sees it.
func TestDoor(t *testing.T) {
	t.Parallel()
	var server http.Handler
	door := acme.New(acme.Config{Server: func() http.Handler { return server }})
	ask := func(body string) int {
		t.Helper()
		w := httptest.NewRecorder()
		door.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/acme/new-order", strings.NewReader(body)))
		if got := w.Header().Get("Content-Type"); w.Code >= 400 && got != "application/problem+json" {
			t.Errorf("%d with the type %q", w.Code, got)
		}
		return w.Code
	}
	if got := ask(""); got != http.StatusServiceUnavailable {
		t.Errorf("without a server: %d", got)
	}
	seen := 0
	server = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen++
		acme.Known(r.Context(), "client") // without a connection of connlimit, it does nothing
		w.WriteHeader(http.StatusNoContent)
	})
	if got := ask("{}"); got != http.StatusNoContent || seen != 1 {
		t.Errorf("with a server: %d", got)
	}
	if got := ask(strings.Repeat("x", 1<<20)); got != http.StatusRequestEntityTooLarge || seen != 1 {
		t.Errorf("a large body: %d, the server saw %d requests", got, seen)
	}
}
