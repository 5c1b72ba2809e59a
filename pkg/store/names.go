package store

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// sorted returns names sorted and without duplicates, so that every transaction locks
// them in the same order.
func sorted(names []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(names)))
}

// namesHash returns the key of a name set, because a hundred names would not fit an
// index.
func namesHash(names []string) string {
	sum := sha256.Sum256([]byte(strings.Join(sorted(names), "\n")))
	return hex.EncodeToString(sum[:])
}
