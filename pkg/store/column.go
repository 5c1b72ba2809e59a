package store

import (
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"encoding/base32"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
)

// defaultLimit is the length of a page when the caller names none.
const defaultLimit = 100

func pageSize(limit int) int {
	if limit <= 0 {
		return defaultLimit
	}
	return limit
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID returns 128 random bits as 26 characters, so that an id cannot be guessed.
func newID() string {
	var b [16]byte
	rand.Read(b[:]) // never fails, see its documentation
	return idEncoding.EncodeToString(b[:])
}

// millis is the column's form of t.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// moment scans a column of milliseconds.
type moment struct{ t *time.Time }

// Scan implements sql.Scanner.
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

// blob is b, never nil: the columns are NOT NULL.
func blob(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// lines is the column's form of a list. An entry that the form cannot hold is
// an error that names the field.
func lines[S ~string](field string, list []S) (string, error) {
	texts := make([]string, 0, len(list))
	for _, entry := range list {
		e := string(entry)
		if e == "" {
			return "", fmt.Errorf("%s: an entry is empty: leave it out", field)
		}
		if e != cleanText(e) || strings.Contains(e, "\n") {
			return "", fmt.Errorf("%s: %q has a line break or is not text: write it on one line in UTF-8", field, e)
		}
		texts = append(texts, e)
	}
	return strings.Join(texts, "\n"), nil
}

// list scans a column of lines into to.
func list[S ~string](to *[]S) sql.Scanner { return lineScanner[S]{to} }

type lineScanner[S ~string] struct{ to *[]S }

// Scan implements sql.Scanner.
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

// cleanText makes any string fit a text column: PostgreSQL takes neither NUL
// nor invalid UTF-8.
func cleanText(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
}

// cleanLines is lines for text that a stranger sent: it is made to fit.
func cleanLines(in []string) string {
	out := make([]string, 0, len(in))
	for _, e := range in {
		if e != "" {
			out = append(out, strings.ReplaceAll(cleanText(e), "\n", "\uFFFD"))
		}
	}
	return strings.Join(out, "\n")
}

// sorted returns names in one order without duplicates, so that every
// transaction locks them in that order.
func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// namesHash is the key of a name set; a hundred names would not fit an index.
func namesHash(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(sorted(names), "\n")))
	return hex.EncodeToString(sum[:])
}
