package hook

import (
	"strings"
	"unicode"
)

// tailSize is the number of bytes of a command's output that are stored.
const tailSize = 4 << 10

// tail stores the last tailSize bytes written to it. It is not safe for concurrent
// use; os/exec copies from one pipe in one goroutine.
type tail struct{ kept []byte }

func (t *tail) Write(p []byte) (int, error) {
	n := len(p)
	p = p[max(0, n-tailSize):]
	if over := len(t.kept) + len(p) - tailSize; over > 0 {
		t.kept = t.kept[:copy(t.kept, t.kept[over:])]
	}
	t.kept = append(t.kept, p...)
	return n, nil
}

// String returns the stored output, safe for a log and a terminal. It omits
// incomplete runes and control characters, which could move the reader's cursor.
func (t *tail) String() string {
	clean := strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return -1
		}
		return r
	}, strings.ToValidUTF8(string(t.kept), ""))
	return strings.TrimSpace(clean)
}
