package rest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/rest"
)

// X41: strangers cannot fill the disk with log events, with any failure of the proxy.
func TestStrangersFillNoLog(t *testing.T) {
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	handler := rest.New(rest.Config{
		Auth: auth.New(auth.Config{}), Audit: audit.New(audit.Config{Logger: logger}),
		Health:   func(context.Context) error { return errors.New("the disk is full") },
		Stopping: t.Context(), Logger: logger, Now: time.Now,
	})
	for range 2000 {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/health", nil))
		if w.Code != http.StatusServiceUnavailable {
			t.Fatalf("status %d", w.Code)
		}
	}
	if n := bytes.Count(log.Bytes(), []byte("\n")); n == 0 || n > 200 {
		t.Errorf("2,000 requests wrote %d lines, %d bytes", n, log.Len())
	}
}
