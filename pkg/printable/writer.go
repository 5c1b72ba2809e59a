package printable

import (
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"
)

// Writer escapes what is not printable, except for line feeds and tabs. It may
// be used concurrently.
type Writer struct {
	w  io.Writer
	mu sync.Mutex // guards cut and marks, and keeps writes whole
	// cut is the beginning of a character whose rest comes with the next Write.
	cut   []byte
	marks int
}

// NewWriter returns a Writer that prints to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// File returns the file behind w, which may be a Writer, or nil. What is written
// there must be printable already.
func File(w io.Writer) *os.File {
	if p, ok := w.(*Writer); ok {
		w = p.w
	}
	f, _ := w.(*os.File)
	return f
}

// Write prints p. It keeps a character that p does not end until the next Write.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.cut) == 0 && isASCII(p) {
		w.marks = 0
		return w.w.Write(p)
	}
	text := append(w.cut, p...)
	end := len(text) - incomplete(text)
	w.cut = append([]byte(nil), text[end:]...)
	if _, err := io.WriteString(w.w, w.escape(string(text[:end]))); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Flush prints what is left of a character that never ended.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	rest := w.escape(string(w.cut))
	w.cut = nil
	if rest == "" {
		return nil
	}
	_, err := io.WriteString(w.w, rest)
	return err
}

func (w *Writer) escape(s string) string {
	var b strings.Builder
	for i, r := range s {
		w.marks = countMarks(w.marks, r)
		if r == '\n' || r == '\t' {
			b.WriteRune(r)
			continue
		}
		appendRune(&b, s[i:], r, w.marks)
	}
	return b.String()
}

// isASCII reports whether p can be printed as it is.
func isASCII(p []byte) bool {
	for _, c := range p {
		if (c < ' ' || c > '~') && c != '\n' && c != '\t' {
			return false
		}
	}
	return true
}

// incomplete returns the number of bytes at the end that may begin a character.
func incomplete(p []byte) int {
	for n := 1; n < utf8.UTFMax && n <= len(p); n++ {
		tail := p[len(p)-n:]
		if utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}
