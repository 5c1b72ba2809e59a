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

// A rekey first writes the new files with the suffix ".next", the TLS key last. Then
// it sends the new key to the proxy. Then it renames the files, the TLS key last
// again. While key.pem.next exists, the proxy may know either key, and a process that
// is refused with the old key tries the new one. A key that may have been sent to the
// proxy is never replaced or removed.

// Rekeyed is the result of a rekey.
type Rekeyed struct {
	Proxy      string   `json:"proxy"`
	Client     string   `json:"client"`
	Recipient  string   `json:"recipient"` // this host's, from now on
	Recipients []string `json:"recipients"`
	// Finished is set if the call completed an earlier rekey that was interrupted.
	Finished bool `json:"finished,omitempty"`
}

// Rekey replaces the TLS key and the identity by new ones. If identity names a file,
// Rekey uses that instead of a new identity. An identity outside the state directory
// stays unless another is named. Former identities are stored, to open older bundles.
// If an earlier rekey was interrupted, Rekey completes that first.
func (s *State) Rekey(ctx context.Context, identity string) (*Rekeyed, error) {
	unlock, err := lock(ctx, filepath.Join(s.Dir, lockName))
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeLeftovers(s.Dir, stateFile)
	if s, err = s.reopen(); err != nil { // another process may have changed it
		return nil, err
	}
	if who, done, err := s.finish(ctx); err != nil || done {
		return s.outcome(who, true, err)
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
	// After an error, the proxy may still know the key: the answer was lost, or an
	// earlier request has arrived.
	who, done, err := s.finish(ctx)
	if !done && refused != nil {
		return nil, fmt.Errorf("%w; run acmeproxy remote rekey again to continue", refused)
	}
	if !done && err == nil {
		err = errors.New("the proxy accepted the new key, but does not know it; run acmeproxy remote rekey again")
	}
	return s.outcome(who, false, err)
}

func (s *State) outcome(who api.Client, finished bool, err error) (*Rekeyed, error) {
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

// rollover holds the recipients to add and to remove together with the key.
type rollover struct{ add, retire []string }

// prepare writes the new files except the key, whose file marks them as complete.
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

// nextIdentity returns the file of the identity after the rekey.
func (s *State) nextIdentity(identity string) (string, error) {
	own, named := s.path(identityName+nextSuffix), s.path(enrolmentName+nextSuffix)
	if exists(s.path(keyName + nextSuffix)) { // it may have been sent to the proxy
		return s.interruptedIdentity(identity)
	}
	for _, leftover := range []string{own, named} { // of a rekey that sent no request
		if err := os.Remove(leftover); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("state-dir: %w", err)
		}
	}
	switch {
	case identity != "" && identity != s.enrolment.Identity:
		if err := checkAdoptable(identity); err != nil {
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
	return own, nil // recipientOf creates it
}

// interruptedIdentity returns the file of the identity of an interrupted rekey.
func (s *State) interruptedIdentity(identity string) (string, error) {
	next := s.identityFile()
	if e, err := readEnrolment(s.path(enrolmentName + nextSuffix)); err == nil {
		next = e.Identity
	} else if s.enrolment.Identity == "" {
		next = s.path(identityName + nextSuffix)
	}
	if identity != "" && identity != next {
		return "", errors.New("identity: a rekey with another identity was interrupted; run acmeproxy remote rekey without --identity first, to complete it")
	}
	return next, nil
}

// finish completes an interrupted rekey if the proxy knows its key. The caller must
// hold the state directory's lock.
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
		return who, false, nil // the proxy knows the old key
	}
	if err != nil {
		return who, false, err
	}
	return who, true, s.promote()
}

// promote renames the new files into place, the TLS key last. So an interrupted
// promotion is repeated.
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

// otherKey returns the TLS key that replaced the one with this pin, which the proxy
// does not know, or nil.
func (s *State) otherKey(ctx context.Context, refused [32]byte) (*tls.Certificate, error) {
	unlock, err := lock(ctx, s.path(lockName)) // wait for the end of a running rekey
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

// syncDir writes new file names to the disk, before their content is sent to the proxy.
func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	defer d.Close()
	if err := localfile.SyncDir(d); err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}
