package cmd

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
)

// An answer ends with a line or with the input, and an interrupt ends the wait.
func TestReadLine(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{"y\nn\n": "y\n", "yes": "yes", "": ""} {
		if got, err := readLine(t.Context(), strings.NewReader(text)); got != want || err != nil {
			t.Errorf("%q: got %q, %v", text, got, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	r, w := io.Pipe()
	defer w.Close()
	cancel()
	if _, err := readLine(ctx, r); !errors.Is(err, context.Canceled) {
		t.Errorf("interrupted: %v", err)
	}
}
