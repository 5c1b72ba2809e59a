package remote

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"filippo.io/age"
	"golang.org/x/crypto/ssh"

	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// identityFile is what new bundles are sealed to, its private half.
func (s *State) identityFile() string {
	if s.enrolment.Identity != "" {
		return s.enrolment.Identity
	}
	return filepath.Join(s.Dir, identityName)
}

// identities are what opens our bundles: the one that they are sealed to now,
// the one of a rekey that is not finished, and those of before. A rekey by
// another process counts at once.
func (s *State) identities() ([]age.Identity, error) {
	now := *s
	if e, err := readEnrolment(filepath.Join(s.Dir, enrolmentName)); err == nil {
		now.enrolment = e
	}
	ids, err := now.loadIdentities(now.identityFile())
	if err != nil {
		return nil, err
	}
	others := append([]string{
		filepath.Join(s.Dir, identityName), filepath.Join(s.Dir, identityName+nextSuffix), filepath.Join(s.Dir, oldIdentityName),
	}, now.enrolment.Former...)
	if next, err := readEnrolment(filepath.Join(s.Dir, enrolmentName+nextSuffix)); err == nil && next.Identity != "" {
		others = append(others, next.Identity)
	}
	for _, path := range others {
		// What cannot be read opens nothing, and then the proxy is asked anew.
		read := localfile.ReadAny
		if filepath.Dir(path) == filepath.Clean(s.Dir) {
			read = localfile.Read
		}
		if data, err := read(path); err == nil && path != now.identityFile() {
			more, _ := seal.ParseIdentities(data)
			ids = append(ids, more...)
		}
	}
	return ids, nil
}

// loadIdentities reads an identity file. The one of our own is made the first
// time.
func (s *State) loadIdentities(path string) ([]age.Identity, error) {
	if filepath.Dir(path) == filepath.Clean(s.Dir) && strings.HasPrefix(filepath.Base(path), identityName) && path != s.enrolment.Identity {
		id, err := seal.LoadOrCreateIdentity(path)
		return []age.Identity{id}, err
	}
	data, err := localfile.ReadAny(path)
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	ids, err := seal.ParseIdentities(data)
	if err != nil {
		return nil, fmt.Errorf("identity: %s: %w", path, err)
	}
	return ids, nil
}

// recipientOf returns the public half of an identity file, in canonical form. A
// .pub file beside it must say the same.
func (s *State) recipientOf(path string) (string, error) {
	ids, err := s.loadIdentities(path)
	if err != nil {
		return "", err
	}
	var own string
	var line []byte
	remedy := fmt.Sprintf("make the right one: ssh-keygen -y -f %s > %s.pub", path, path)
	if id, ok := ids[0].(*age.X25519Identity); ok {
		own, remedy = id.Recipient().String(), "remove it, an age identity needs none"
		line, err = localfile.ReadAny(path + ".pub")
		if errors.Is(err, fs.ErrNotExist) {
			return own, nil
		}
	} else {
		if own, err = sshRecipient(path); err != nil {
			return "", fmt.Errorf("identity: %s: %w", path, err)
		}
		line, err = localfile.ReadAny(path + ".pub")
	}
	if err != nil {
		return "", fmt.Errorf("identity: the public half of %s is needed beside it: %w; %s", path, err, remedy)
	}
	recipient, err := seal.Canonical(string(line))
	if err != nil {
		return "", fmt.Errorf("identity: %s.pub: %w; %s", path, err, remedy)
	}
	if findRecipient([]string{recipient}, own) == "" {
		return "", fmt.Errorf("identity: %s.pub is not the public half of %s; %s", path, path, remedy)
	}
	return recipient, nil
}

// presentRecipient returns the public half of the identity in use. A .pub file
// beside an age identity, which needs none, does not stop an enrolled host.
func (s *State) presentRecipient() (string, error) {
	ids, err := s.loadIdentities(s.identityFile())
	if err != nil {
		return "", err
	}
	if id, ok := ids[0].(*age.X25519Identity); ok {
		return id.Recipient().String(), nil
	}
	return s.recipientOf(s.identityFile())
}

// sshRecipient returns the public half of an SSH private key.
func sshRecipient(path string) (string, error) {
	data, err := localfile.ReadAny(path)
	if err != nil {
		return "", err
	}
	key, err := ssh.ParsePrivateKey(data)
	if err != nil {
		return "", errors.New("not an SSH private key that age can use")
	}
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(key.PublicKey()))), nil
}

// adoptable returns an error if an identity file that the administrator names may
// not become this host's: an untrusted user who owns it can open what is sealed to
// it. One that is in use already stays so.
func adoptable(path string) error {
	if err := localfile.CheckOwn(path); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// findRecipient returns how a list spells a recipient, whatever its comment;
// empty: it is not there.
func findRecipient(all []string, want string) string {
	i := seal.FindRecipient(all, want)
	if i < 0 {
		return ""
	}
	return all[i]
}

// mostOld bounds the identities of before that are kept.
const mostOld = 32

// keepOldIdentity adds the identity that is about to be replaced to those of
// before: bundles that were sealed to it are still to be opened.
func (s *State) keepOldIdentity() error {
	current, err := localfile.Read(filepath.Join(s.Dir, identityName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	path := filepath.Join(s.Dir, oldIdentityName)
	old, err := localfile.Read(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	var secrets []string
	for line := range strings.Lines(string(old) + "\n" + string(current)) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' && !slices.Contains(secrets, line) {
			secrets = append(secrets, line)
		}
	}
	secrets = secrets[max(0, len(secrets)-mostOld):]
	return writeState(path, []byte(strings.Join(secrets, "\n")+"\n"))
}
