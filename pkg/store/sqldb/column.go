package sqldb

import (
	"crypto/rand"
	"database/sql"
	"encoding/base32"
	"fmt"
	"strings"
	"time"
)

// defaultLimit is the length of a page if the caller sets no limit.
const defaultLimit = 100

// PageSize returns the length of a page, which is limit, or 100 if limit is not set.
func PageSize(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return limit
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewID returns 128 random bits as 26 characters, so that an id cannot be guessed.
func NewID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see its documentation
	return idEncoding.EncodeToString(b[:])
}

// Millis returns the column's form of t.
func Millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// Time returns the scanner of a column of milliseconds into t.
func Time(t *time.Time) sql.Scanner { return moment{t} }

type moment struct{ t *time.Time }

// Scan implements [sql.Scanner].
func (m moment) Scan(v any) error {
	ms, ok := v.(int64)
	if !ok {
		return fmt.Errorf("time column holds %T, not an integer", v)
	}
	*m.t = time.Time{}
	if ms != 0 {
		*m.t = time.UnixMilli(ms).UTC()
	}
	return nil
}

// Blob returns b, never nil: the columns are NOT NULL.
func Blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// Lines returns the column's form of a list. It returns an error that names the field
// if an entry cannot be stored.
func Lines[S ~string](field string, list []S) (string, error) {
	texts := make([]string, 0, len(list))
	for _, entry := range list {
		e := string(entry)
		if e == "" {
			return "", fmt.Errorf("%s: an entry is empty: leave it out", field)
		}
		if e != CleanText(e) || strings.Contains(e, "\n") {
			return "", fmt.Errorf("%s: %q has a line break or is not text: write it on one line in UTF-8", field, e)
		}
		texts = append(texts, e)
	}
	return strings.Join(texts, "\n"), nil
}

// List returns the scanner of a column of lines into to.
func List[S ~string](to *[]S) sql.Scanner { return lineScanner[S]{to} }

type lineScanner[S ~string] struct{ to *[]S }

// Scan implements [sql.Scanner].
func (l lineScanner[S]) Scan(v any) error {
	s, ok := v.(string)
	if !ok {
		return fmt.Errorf("list column holds %T, not text", v)
	}
	*l.to = nil
	if s == "" {
		return nil
	}
	for line := range strings.SplitSeq(s, "\n") {
		*l.to = append(*l.to, S(line))
	}
	return nil
}

// CleanText replaces NUL and invalid UTF-8, which PostgreSQL does not accept in a text
// column.
func CleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// CleanLines returns the column's form of untrusted text, as [Lines] does, but replaces
// what cannot be stored.
func CleanLines(in []string) string {
	out := make([]string, 0, len(in))
	for _, e := range in {
		if e != "" {
			out = append(out, strings.ReplaceAll(CleanText(e), "\n", "\uFFFD"))
		}
	}
	return strings.Join(out, "\n")
}
