package seal

import (
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// MaxRecipients is the maximum number of recipients of one client.
const MaxRecipients = 64

// MaxRSABits is the maximum size of a new ssh-rsa recipient. Each renewal encrypts
// to it.
const MaxRSABits = 4096

// ParseRecipients reads recipients in their usual notation: age1… (X25519) or an
// SSH public key line (ssh-ed25519, ssh-rsa). It reports every fault with its
// position.
func ParseRecipients(lines []string) ([]age.Recipient, error) {
	if len(lines) > MaxRecipients {
		return nil, fmt.Errorf("%d recipients are too many; the limit is %d", len(lines), MaxRecipients)
	}
	var recipients []age.Recipient
	var faults []error
	for i, line := range lines {
		r, err := parseRecipient(line)
		if err == nil {
			err = try(r)
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("recipient %d: %w", i+1, err))
			continue
		}
		recipients = append(recipients, r)
	}
	return recipients, errors.Join(faults...)
}

func parseRecipient(line string) (age.Recipient, error) {
	line = strings.TrimSpace(line)
	switch {
	case len(line) > 4096 || strings.ContainsAny(line, "\r\n"):
		return nil, errors.New("too long, or of more than one line")
	case strings.HasPrefix(line, "ssh-"):
		if _, err := sshKey(line); err != nil {
			return nil, err
		}
		r, err := agessh.ParseRecipient(line)
		if err != nil {
			return nil, errors.New("not a usable SSH public key; age opens ssh-ed25519 and ssh-rsa (2048 bits or more)")
		}
		return r, nil
	case strings.HasPrefix(line, "age1"):
		r, err := age.ParseX25519Recipient(line)
		if err != nil {
			return nil, errors.New("not an X25519 recipient (age1…); copy the whole line of age-keygen's \"public key\"")
		}
		return r, nil
	case strings.HasPrefix(strings.ToUpper(line), "AGE-SECRET-KEY-"):
		return nil, errors.New("this is a secret key, keep it to yourself; write its public half, age1…")
	}
	return nil, errors.New("not a recipient; write an age1… key or a line of an SSH public key file (ssh-ed25519, ssh-rsa)")
}

// try returns an error for keys that are well formed but unusable, such as points
// of low order. This detects them before a certificate is sealed.
func try(r age.Recipient) error {
	if _, err := r.Wrap(make([]byte, 16)); err != nil {
		return errors.New("nothing can be encrypted to this key; make another one")
	}
	return nil
}

// sshKey refuses options, which agessh would skip silently.
func sshKey(line string) (ssh.PublicKey, error) {
	key, _, options, rest, err := ssh.ParseAuthorizedKey([]byte(strings.TrimSpace(line)))
	if err != nil || len(options) > 0 || len(rest) > 0 {
		return nil, errors.New("not an SSH public key; copy one line of a .pub file")
	}
	return key, nil
}

// CheckNew returns an error for recipients that a client must not get. It differs
// from ParseRecipients in its limit for RSA keys, MaxRSABits. The limit does not
// apply to recipients that the client has already.
func CheckNew(lines, have []string) error {
	if len(lines) > MaxRecipients {
		return fmt.Errorf("%d recipients are too many; the limit is %d", len(lines), MaxRecipients)
	}
	var faults []error
	for i, line := range lines {
		if err := checkNew(line, have); err != nil {
			faults = append(faults, fmt.Errorf("recipient %d: %w", i+1, err))
		}
	}
	return errors.Join(faults...)
}

func checkNew(line string, have []string) error {
	r, err := parseRecipient(line)
	if err != nil {
		return err
	}
	if FindRecipient(have, line) >= 0 {
		return nil
	}
	if bits := RSABits(line); bits > MaxRSABits {
		return fmt.Errorf("an RSA key of %d bits is too large; use ssh-ed25519, age1… or RSA of at most %d bits", bits, MaxRSABits)
	}
	return try(r)
}

// Canonical returns the canonical form of a recipient: age1… in lower case, or the
// type and the base64 of an SSH key without its comment.
func Canonical(line string) (string, error) {
	r, err := parseRecipient(line)
	if err != nil {
		return "", err
	}
	if r, ok := r.(*age.X25519Recipient); ok {
		return r.String(), nil
	}
	key, err := sshKey(line)
	if err != nil {
		return "", err
	}
	return key.Type() + " " + base64.StdEncoding.EncodeToString(key.Marshal()), nil
}

// CanonicalList returns recipients in canonical form, without duplicates, in the
// order of first appearance. A recipient that cannot be parsed is not changed.
func CanonicalList(lines []string) []string {
	var all []string
	for _, line := range lines {
		if c := canonicalOrSame(line); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	return all
}

// FindRecipient returns the index of a recipient in a list, whatever its spelling,
// or -1.
func FindRecipient(list []string, want string) int {
	want = canonicalOrSame(want)
	return slices.IndexFunc(list, func(r string) bool { return canonicalOrSame(r) == want })
}

func canonicalOrSame(line string) string {
	if c, err := Canonical(line); err == nil {
		return c
	}
	return line
}

// RSABits returns the size of an ssh-rsa recipient, or 0 for every other kind.
func RSABits(line string) int {
	key, err := sshKey(line)
	if err != nil {
		return 0
	}
	if public, ok := key.(ssh.CryptoPublicKey); ok {
		if k, ok := public.CryptoPublicKey().(*rsa.PublicKey); ok {
			return k.N.BitLen()
		}
	}
	return 0
}
