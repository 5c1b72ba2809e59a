package bodymac

import (
	"crypto/md5"  //nolint:gosec // an HMAC does not need a hash without collisions
	"crypto/sha1" //nolint:gosec // as above
	"crypto/sha256"
	"crypto/sha3"
	"crypto/sha512"
	"fmt"
	"hash"
	"maps"
	"slices"
	"strings"

	"golang.org/x/crypto/blake2b"
	"golang.org/x/crypto/blake2s"
)

// Type is a hash function, by its name in Python's hashlib.
type Type string

// The types in common use.
const (
	SHA256 Type = "sha256"
	SHA384 Type = "sha384"
	SHA512 Type = "sha512"
)

var hashes = map[Type]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New,
	"sha224": sha256.New224, SHA256: sha256.New, SHA384: sha512.New384, SHA512: sha512.New,
	"sha3_224": of(sha3.New224), "sha3_256": of(sha3.New256), "sha3_384": of(sha3.New384), "sha3_512": of(sha3.New512),
	"blake2b": unkeyed(blake2b.New512), "blake2s": unkeyed(blake2s.New256),
}

func of(create func() *sha3.SHA3) func() hash.Hash {
	return func() hash.Hash { return create() }
}

func unkeyed(create func(key []byte) (hash.Hash, error)) func() hash.Hash {
	return func() hash.Hash {
		h, err := create(nil)
		if err != nil {
			panic(err) // only a key can be wrong
		}
		return h
	}
}

// ParseType returns the type with a name of hashlib.
func ParseType(name string) (Type, error) {
	if hashes[Type(name)] == nil {
		names := slices.Sorted(maps.Keys(hashes))
		return "", fmt.Errorf("unknown hash function %q; use sha256, or another of %v", name, names)
	}
	return Type(name), nil
}

// typeOf returns the type that a header names, by hashlib or by OpenSSL in its versions 1
// (SHA256) and 3 (SHA2-256), in any case. It returns an empty one if the name is unknown.
func typeOf(name string) Type {
	name = strings.ToLower(name)
	if bits, ok := strings.CutPrefix(name, "sha2-"); ok {
		name = "sha" + bits
	}
	switch name {
	case "blake2b512", "blake2b-512":
		name = "blake2b"
	case "blake2s256", "blake2s-256":
		name = "blake2s"
	default:
		name = strings.ReplaceAll(name, "-", "_") // sha3-256
	}
	if t := Type(name); hashes[t] != nil {
		return t
	}
	return ""
}
