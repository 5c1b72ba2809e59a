package admin_test

import (
	"errors"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// dial returns an Admin whose proxy is h.
func dial(t *testing.T, h http.Handler) *admin.Admin {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, admin.SocketName)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, ReadHeaderTimeout: time.Minute}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return admin.Dial(path)
}

// A serve of an earlier version has no path, or no method, for a new command.
func TestServeIsOlder(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /clients/{name}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"type":"about:blank","title":"Not Found","status":404,"detail":"no client of this name"}`))
	})
	mux.HandleFunc("GET /probes", func(http.ResponseWriter, *http.Request) {}) // as it was before a POST was known
	mux.HandleFunc("GET /ca", func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "oops", http.StatusInternalServerError) })
	a := dial(t, mux)
	const hint = "the running acmeproxy serve is older than this program and does not know this command; restart acmeproxy serve"
	if _, err := a.Status(t.Context()); err == nil || !strings.Contains(err.Error(), hint) {
		t.Errorf("404: %v", err)
	}
	if _, err := a.AddProbe(t.Context(), admin.NewProbe{}); err == nil || !strings.Contains(err.Error(), hint) {
		t.Errorf("405: %v", err)
	}
	// A problem document with the same status is an answer to the command.
	var problem *api.Problem
	if _, err := a.Client(t.Context(), "web1"); !errors.As(err, &problem) || problem.Status != 404 || strings.Contains(err.Error(), "older") {
		t.Errorf("problem document: %v", err)
	}
	if _, err := a.CA(t.Context()); err == nil || err.Error() != "the proxy answered 500 Internal Server Error" {
		t.Errorf("500: %v", err)
	}
}
