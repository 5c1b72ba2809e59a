package remote

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// A rekey first writes what is new beside what is in force, with the suffix
// ".next", the TLS key last; then it asks the proxy; then it renames, the TLS key
// last again. So as long as there is a key.pem.next the proxy may know either
// key, and whoever is refused with the old one tries that. Nothing that may have
// been sent to the proxy is ever made anew or thrown away.

// Rekeyed is what a rekey has come to.
type Rekeyed struct {
	Proxy      string   `json:"proxy"`
	Client     string   `json:"client"`
	Recipient  string   `json:"recipient"` // this host's, from now on
	Recipients []string `json:"recipients"`
	// Finished tells that an earlier rekey, which was interrupted, is complete now.
	Finished bool `json:"finished,omitempty"`
}

// Rekey makes a new TLS key, and where bundles are sealed to the identity that
// was made in the state directory, a new one of these; or it takes the identity
// of that file, if one is named. The old identities stay, to open what was sealed
// before. A rekey that was interrupted is gone on with.
func (s *State) Rekey(ctx context.Context, identity string) (*Rekeyed, error) {
	unlock, err := lock(ctx, filepath.Join(s.Dir, lockName))
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeLeftovers(s.Dir, stateFile)
	if s, err = s.reopen(); err != nil { // another may have come first
		return nil, err
	}
	if who, done, err := s.finish(ctx); err != nil || done {
		return s.rekeyed(who, true, err)
	}
	client, err := s.client(keyName)
	if err != nil {
		return nil, err
	}
	who, err := client.Self(ctx)
	if err != nil {
		return nil, err
	}
	ask, err := s.prepare(identity, who)
	if err != nil {
		return nil, err
	}
	key, err := s.signer(keyName + nextSuffix)
	if err != nil {
		return nil, err
	}
	if err := syncDir(s.Dir); err != nil {
		return nil, err
	}
	_, refused := client.ReplaceKey(ctx, key, ask.add, ask.retire)
	var p *api.Problem
	if errors.As(refused, &p) && p.Status != http.StatusUnauthorized && p.Status < 500 {
		return nil, refused
	}
	// Done, or the answer is lost, or an earlier question has only now been heard.
	who, done, err := s.finish(ctx)
	if !done && refused != nil {
		return nil, fmt.Errorf("%w; run acmeproxy remote rekey again, it goes on where it was", refused)
	}
	if !done && err == nil {
		err = errors.New("the proxy took the new key and does not know it; run acmeproxy remote rekey again")
	}
	return s.rekeyed(who, false, err)
}

func (s *State) rekeyed(who api.Client, finished bool, err error) (*Rekeyed, error) {
	if err != nil {
		return nil, err
	}
	now, err := s.reopen()
	if err != nil {
		return nil, err
	}
	own, err := now.presentRecipient()
	if err != nil {
		return nil, err
	}
	return &Rekeyed{Proxy: now.URL(), Client: who.Name, Recipient: own, Recipients: who.Recipients, Finished: finished}, nil
}

// rollover is what to ask the proxy for besides the new key.
type rollover struct{ add, retire []string }

// prepare writes what is new but for the key, whose file says that all is there.
func (s *State) prepare(identity string, who api.Client) (rollover, error) {
	next, err := s.nextIdentity(identity)
	if err != nil {
		return rollover{}, err
	}
	was, err := s.presentRecipient()
	if err != nil {
		return rollover{}, err
	}
	own := was
	if next != s.identityFile() {
		own, err = s.recipientOf(next)
	}
	if err != nil {
		return rollover{}, err
	}
	if _, err := seal.ParseRecipients([]string{own}); err != nil {
		return rollover{}, fmt.Errorf("identity: %s: %w", next, err)
	}
	var ask rollover
	if findRecipient(who.Recipients, own) == "" {
		ask.add = []string{own}
	}
	if known := findRecipient(who.Recipients, was); known != "" && findRecipient([]string{was}, own) == "" {
		ask.retire = []string{known}
	}
	return ask, nil
}

// nextIdentity is the file of the identity after the rekey.
func (s *State) nextIdentity(identity string) (string, error) {
	own, named := s.path(identityName+nextSuffix), s.path(enrolmentName+nextSuffix)
	if exists(s.path(keyName + nextSuffix)) { // the proxy may have heard of it
		return s.begunIdentity(identity)
	}
	for _, leftover := range []string{own, named} { // of a rekey that asked nobody
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("state-dir: %w", err)
		}
	}
	switch {
	case identity != "" && identity != s.enrolment.Identity:
		if err := adoptable(identity); err != nil {
			return "", err
		}
		if _, err := s.recipientOf(identity); err != nil {
			return "", err
		}
		e := s.enrolment
		if e.Identity != "" {
			e.Former = append(e.Former, e.Identity)
		}
		e.Identity = identity
		if err := e.write(named); err != nil {
			return "", fmt.Errorf("state-dir: %w", err)
		}
		return identity, nil
	case s.enrolment.Identity != "":
		return s.enrolment.Identity, nil
	}
	return own, nil // recipientOf makes it
}

// begunIdentity is that of a rekey which was interrupted.
func (s *State) begunIdentity(identity string) (string, error) {
	next := s.identityFile()
	if e, err := readEnrolment(s.path(enrolmentName + nextSuffix)); err == nil {
		next = e.Identity
	} else if s.enrolment.Identity == "" {
		next = s.path(identityName + nextSuffix)
	}
	if identity != "" && identity != next {
		return "", errors.New("identity: a rekey with another identity was interrupted; run acmeproxy remote rekey without --identity first, it goes on with that")
	}
	return next, nil
}

// finish takes the key of an interrupted rekey into force if the proxy knows it.
// The caller holds the state directory's lock.
func (s *State) finish(ctx context.Context) (who api.Client, done bool, err error) {
	if !exists(s.path(keyName + nextSuffix)) {
		return who, false, nil
	}
	next, err := s.client(keyName + nextSuffix)
	if err != nil {
		return who, false, err
	}
	who, err = next.Self(ctx)
	if isStatus(err, http.StatusUnauthorized) {
		return who, false, nil // the old one is in force
	}
	if err != nil {
		return who, false, err
	}
	return who, true, s.promote()
}

// promote renames what is new into place. Killed in between, it is done again:
// the TLS key goes last.
func (s *State) promote() error {
	for _, name := range []string{identityName, enrolmentName, keyName} {
		if err := localfile.Check(s.path(name + nextSuffix)); err != nil {
			return fmt.Errorf("state-dir: %w", err)
		}
	}
	if exists(s.path(identityName + nextSuffix)) {
		if err := s.keepOldIdentity(); err != nil {
			return fmt.Errorf("state-dir: %w", err)
		}
		if err := syncDir(s.Dir); err != nil {
			return err
		}
	}
	for _, name := range []string{identityName, enrolmentName, keyName} {
		if err := os.Rename(s.path(name+nextSuffix), s.path(name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("state-dir: %w", err)
		}
	}
	return syncDir(s.Dir)
}

// otherKey finds the TLS key that is in force when the one with this pin is not
// known to the proxy (any more); nil: there is no other.
func (s *State) otherKey(ctx context.Context, refused [32]byte) (*tls.Certificate, error) {
	unlock, err := lock(ctx, s.path(lockName)) // a rekey that is under way may end
	if err != nil {
		return nil, err
	}
	defer unlock()
	key, err := s.tlsKey(keyName)
	if err != nil || auth.SPKIPin(key.Leaf) != refused {
		return key, err
	}
	if _, done, err := s.finish(ctx); err != nil || !done {
		return nil, err
	}
	return s.tlsKey(keyName)
}

func (s *State) path(name string) string { return filepath.Join(s.Dir, name) }

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// syncDir has new names on the disk before the proxy hears of what they hold.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}
