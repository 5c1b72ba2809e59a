package cmd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
)

// No command acts on a certificate that a serve returns despite another name: neither
// one of an earlier version, which cannot select, nor one with a fault (X43).
func TestCertificateOfAnotherName(t *testing.T) {
	for header, want := range map[string]string{
		"":                       "the running acmeproxy serve is older than this program",
		"Acmeproxy-Strict-Query": `no certificate has the name "typo.example.com"`,
	} {
		dir := serveAdmin(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet || r.URL.Path != "/certificates" {
				t.Errorf("%s %s is requested", r.Method, r.URL)
			}
			w.Header().Set("Content-Type", "application/json")
			if header != "" {
				w.Header().Set(header, "true")
			}
			fmt.Fprint(w, `{"certificates":[{"id":"k3xq5c7v2n4m6p2r4t6w8y2a4c","names":["only.example.com"],"mode":"agent","client":"web1","serial":"1"}]}`)
		}))
		for _, command := range []string{"forget", "revoke", "renew", "hook", "show"} {
			c := newRoot()
			c.SetArgs([]string{"certs", command, "typo.example.com", "--data-dir", dir})
			c.SetOut(io.Discard)
			c.SetErr(io.Discard)
			if err := c.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", command, err, want)
			}
		}
	}
}

// serveAdmin serves h on the socket of a data directory, which it returns.
func serveAdmin(t *testing.T, h http.Handler) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "admin") //nolint:usetesting // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, admin.SocketName))
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
	return dir
}
