package store

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

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
