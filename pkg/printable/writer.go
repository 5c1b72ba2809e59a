package printable

import (
	"io"
	"os"
	"strings"
	"sync"
	"unicode/utf8"
)

// Writer escapes all characters that are not printable, except line feeds and tabs. It
// is safe for concurrent use.
type Writer struct {
	w  io.Writer
	mu sync.Mutex // guards cut and marks, and serializes writes
	// cut is the beginning of a character that the next Write continues.
	cut   []byte
	marks int
}

// NewWriter returns a Writer that prints to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// File returns the file that w writes to, directly or through a Writer, or nil. Text
// that the caller writes to the file must be printable already.
func File(w io.Writer) *os.File {
	if p, ok := w.(*Writer); ok {
		w = p.w
	}
	f, _ := w.(*os.File)
	return f
}

// Write prints p. It stores an incomplete character at the end of p until the next
// Write.
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

// Flush prints the bytes of an incomplete character.
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

// isASCII reports whether p is printable ASCII, line feeds and tabs.
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
