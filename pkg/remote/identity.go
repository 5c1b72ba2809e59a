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

// identityFile returns the path of the identity to which new bundles are sealed.
func (s *State) identityFile() string {
	if s.enrolment.Identity != "" {
		return s.enrolment.Identity
	}
	return filepath.Join(s.Dir, identityName)
}

// identities returns the identities that can open this host's bundles: the current
// one, that of an unfinished rekey, and former ones. It includes those of a rekey by
// another process.
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
		// An unreadable file is skipped. If no identity opens a bundle, the proxy is
		// asked for another.
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

// loadIdentities reads an identity file. It creates one in the state directory if it
// is missing there.
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

// recipientOf returns the public half of an identity file, in canonical form. A .pub
// file next to it must hold the same recipient.
func (s *State) recipientOf(path string) (string, error) {
	ids, err := s.loadIdentities(path)
	if err != nil {
		return "", err
	}
	var own string
	var line []byte
	remedy := fmt.Sprintf("run ssh-keygen -y -f %s > %s.pub", path, path)
	if id, ok := ids[0].(*age.X25519Identity); ok {
		own, remedy = id.Recipient().String(), "remove it, because an age identity does not need it"
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
		return "", fmt.Errorf("identity: the public half of %s must be next to it: %w; %s", path, err, remedy)
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

// presentRecipient returns the public half of the identity in use. It ignores a .pub
// file next to an age identity, so that such a file does not stop an enrolled host.
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

// checkAdoptable returns an error if an untrusted user owns an identity file that
// the administrator names: that user could open bundles that are sealed to it. It is
// not called for an identity that is in use already.
func checkAdoptable(path string) error {
	if err := localfile.CheckOwn(path); err != nil {
		return fmt.Errorf("identity: %w", err)
	}
	return nil
}

// findRecipient returns a recipient in the spelling of a list, or "" if the list does
// not contain it. It ignores the comments of SSH keys.
func findRecipient(all []string, want string) string {
	i := seal.FindRecipient(all, want)
	if i < 0 {
		return ""
	}
	return all[i]
}

// maxOldIdentities is the number of former identities that are stored.
const maxOldIdentities = 32

// keepOldIdentity adds the identity that is about to be replaced to the former ones,
// so that bundles sealed to it can still be opened.
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
	secrets = secrets[max(0, len(secrets)-maxOldIdentities):]
	return writeState(path, []byte(strings.Join(secrets, "\n")+"\n"))
}
