//go:build unix

package certfile_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// put replaces a file by another one.
func put(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.Remove(path), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// A file that another program put where ours was is copied once before it is replaced,
// also without Force. The number of copies is bounded.
func TestChangedFilesAreCopied(t *testing.T) { // X43
	for name, write := range map[string]func(ctx context.Context, dir string, b *cert.Bundle, c certfile.Claim) error{
		"links": certfile.Layout{}.WriteAs, "copies": certfile.Layout{}.WriteOneByOne,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			var copies []string
			claim := certfile.Claim{Owner: owner(t, "a"), Copied: func(path string) { copies = append(copies, path) }}
			install := func(serial int64) {
				t.Helper()
				b := bundle(t, serial)
				if err := write(t.Context(), dir, b, claim); err != nil {
					t.Fatal(err)
				}
				has(t, dir, b)
			}
			install(1)
			install(2)
			key := filepath.Join(dir, "privkey.pem")
			for range 2 { // a program that writes it again and again
				put(t, key, "my key")
				install(3)
			}
			if len(copies) != 1 {
				t.Fatalf("copies %q", copies)
			}
			text, err := os.ReadFile(copies[0])
			info, statErr := os.Stat(copies[0])
			if err != nil || statErr != nil || string(text) != "my key" || info.Mode().Perm() != 0o600 {
				t.Errorf("%s has %q, %v (%v)", copies[0], text, info, err)
			}

			// files that were restored from a backup, and a link to our set, are ours
			ours, err := os.ReadFile(filepath.Join(dir, "chain.pem"))
			if err != nil {
				t.Fatal(err)
			}
			put(t, filepath.Join(dir, "chain.pem"), string(ours))
			install(4)
			if len(copies) != 1 {
				t.Errorf("copies %q", copies)
			}

			// a link to another file is kept as a link, a pipe is not
			for _, err := range []error{os.Remove(key), os.Symlink("/etc/other.pem", key)} {
				if err != nil {
					t.Fatal(err)
				}
			}
			leaf := filepath.Join(dir, "cert.pem")
			if err := errors.Join(os.Remove(leaf), unix.Mkfifo(leaf, 0o600)); err != nil {
				t.Fatal(err)
			}
			install(5)
			if len(copies) != 2 {
				t.Fatalf("copies %q", copies)
			}
			if target, err := os.Readlink(copies[1]); err != nil || target != "/etc/other.pem" {
				t.Errorf("%s leads to %q (%v)", copies[1], target, err)
			}

			for i := range 20 {
				put(t, key, fmt.Sprint(i))
				install(int64(6 + i))
			}
			if len(copies) != 5 {
				t.Errorf("copies %q", copies)
			}
			for _, path := range copies {
				if !strings.HasPrefix(path, key+".2") || !strings.HasSuffix(path, ".bak") {
					t.Errorf("a copy at %s", path)
				}
			}
		})
	}
}
