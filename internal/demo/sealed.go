//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"filippo.io/age"

	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// sealed shows that the bundle on the proxy's disk opens with the host's identity, and
// not with the proxy's own.
func (s *story) sealed(host string) error {
	ciphertext, err := s.bundle(host)
	if err != nil {
		return err
	}
	// The database splits a long value, so the search is for the line that holds the
	// sealed file key.
	_, stanza, _ := bytes.Cut(ciphertext, []byte("\n"))
	stanza, _, _ = bytes.Cut(stanza, []byte("\n"))
	files, err := readTree(s.path(dmz))
	if err != nil {
		return err
	}
	where := find(files, string(stanza))
	if where == "" || len(stanza) < 40 {
		return errors.New("the bundle is not on the proxy's disk, so it proves nothing")
	}
	s.say("the bundle of %s on the proxy's disk, in %s: %s…", host, where, stanza[:25])
	proxys, err := identityIn(s.path(dmz, "identity.age"))
	if err != nil {
		return err
	}
	if _, err := seal.Open(ciphertext, proxys); !errors.Is(err, seal.ErrNotForUs) {
		return fmt.Errorf("the proxy's identity.age must not open the bundle, but: %w", err)
	}
	s.say("  the proxy's identity.age does not open it: it is sealed to others")
	own, err := identityIn(s.path(host, "identity.age"))
	if err != nil {
		return err
	}
	plain, err := seal.Open(ciphertext, own)
	if err != nil || !bytes.Contains(plain, []byte("PRIVATE KEY")) {
		return fmt.Errorf("the identity.age of %s does not open its bundle: %w", host, err)
	}
	s.say("  the identity.age of %s opens it: key and chain, %d bytes", host, len(plain))
	return nil
}

// bundle returns the host's sealed bundle, as the proxy sends it.
func (s *story) bundle(host string) ([]byte, error) {
	state, err := remote.Open(s.path(host), "acmeproxy-demo")
	if err != nil {
		return nil, err
	}
	client, err := state.API()
	if err != nil {
		return nil, err
	}
	certificates, err := client.Certificates(s.ctx)
	if err != nil || len(certificates) != 1 {
		return nil, fmt.Errorf("%s has %d certificates: %w", host, len(certificates), err)
	}
	ciphertext, _, _, err := client.Bundle(s.ctx, certificates[0].ID, "", 0)
	return ciphertext, err
}

// identityIn reads an age identity.
func identityIn(file string) (*age.X25519Identity, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "AGE-SECRET-KEY-") {
			return age.ParseX25519Identity(line)
		}
	}
	return nil, fmt.Errorf("%s holds no age identity", file)
}
