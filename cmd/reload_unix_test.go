//go:build unix

package cmd

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// X19: a pipe in the place of the configuration file blocks no reload, and a file after
// it is read.
func TestReloadOfPipe(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "acmeproxy.yaml")
	write := func() {
		t.Helper()
		if err := os.WriteFile(file, []byte("hostname: acmeproxy.example.com\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write()
	source := &settingsSource[config.Serve]{flags: new(pflag.FlagSet), file: func() string { return file }, bind: bindServe}
	if _, err := source.read(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mkfifo(file, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := source.read(); err == nil || !strings.Contains(err.Error(), "is not a regular file") {
		t.Errorf("a pipe: %v", err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	write()
	if s, err := source.read(); err != nil || s.Hostname != "acmeproxy.example.com" {
		t.Errorf("a file: %v", err)
	}
}

// A configuration file that other users can change is reported, because its hooks run
// as this user.
func TestUnsafeConfigurationFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "acmeproxy.yaml")
	if err := os.WriteFile(file, []byte("hostname: acmeproxy.example.com\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	source := &settingsSource[config.Serve]{used: file}
	for mode, want := range map[os.FileMode]bool{0o644: false, 0o646: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		var log bytes.Buffer
		source.warnRisk(slog.New(slog.NewTextHandler(&log, nil)))
		if warned := strings.Contains(log.String(), "the configuration file is not safe"); warned != want {
			t.Errorf("%v: %s", mode, log.String())
		}
	}
}
