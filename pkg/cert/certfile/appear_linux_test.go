package certfile_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// TestAppearAtOnce checks that a program that waits for one file of a first certificate
// finds all of them. (X10)
func TestAppearAtOnce(t *testing.T) {
	b := bundle(t, 1)
	for range 100 {
		dir := t.TempDir()
		if err := os.MkdirAll(filepath.Join(dir, "out"), 0o755); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() {
			for {
				_, err := os.Stat(filepath.Join(dir, "out", certfile.Key))
				if err == nil {
					break
				}
			}
			_, err := certfile.Read(filepath.Join(dir, "out"))
			done <- err
		}()
		write(t, filepath.Join(dir, "out"), b)
		if err := <-done; err != nil {
			t.Fatalf("the key is there, and: %v", err)
		}
	}
}
