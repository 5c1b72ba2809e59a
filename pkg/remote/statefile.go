package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// keptFile is the content of a state file. Files of earlier versions have the same
// fields or fewer.
type keptFile struct {
	Name    string       `json:"name,omitempty"` // stored name; empty in files of earlier releases
	Names   cert.Names   `json:"names"`
	Mode    clients.Mode `json:"mode"`
	KeyType cert.KeyType `json:"key_type"`
	Out     string       `json:"out"`
	Hook    string       `json:"hook,omitempty"`
	Profile string       `json:"profile,omitempty"`
	Source  string       `json:"source,omitempty"`
	certfile.Layout
	ID          string      `json:"id,omitempty"`
	ETag        string      `json:"etag,omitempty"`
	Serial      string      `json:"serial,omitempty"`
	NotAfter    time.Time   `json:"not_after,omitzero"`
	HookDue     bool        `json:"hook_due,omitempty"`
	Revoking    *revoking   `json:"revoking,omitempty"`
	Revoked     string      `json:"revoked,omitempty"`
	Failures    int         `json:"failures,omitempty"`
	LastError   string      `json:"last_error,omitempty"`
	NextAttempt time.Time   `json:"next_attempt,omitzero"`
	WaitUntil   time.Time   `json:"wait_until,omitzero"`
	ProxyAsked  bool        `json:"proxy_asked,omitempty"`
	Tries       []time.Time `json:"tries,omitempty"`
	Proposed    *proposal   `json:"proposed,omitempty"`
	Transient   bool        `json:"transient,omitempty"`
	AskAgain    time.Time   `json:"ask_again,omitzero"`

	Unlisted   bool        `json:"unlisted,omitempty"`
	Former     *former     `json:"former,omitempty"`
	Withdraw   []string    `json:"withdraw,omitempty"`
	Forgetting *forgetting `json:"forgetting,omitempty"`
}

func (k *Kept) file() keptFile {
	return keptFile{
		Name: k.Name, Source: k.Source, Unlisted: k.Unlisted, Former: k.Former, Withdraw: k.Withdraw, Forgetting: k.Forgetting,
		Names: k.Names, Mode: k.Mode, KeyType: k.KeyType, Out: k.Out, Hook: k.Hook, Profile: k.Profile, Layout: k.Layout,
		ID: k.ID, ETag: k.ETag, Serial: k.Serial, NotAfter: k.NotAfter, HookDue: k.HookDue, Revoking: k.Revoking, Revoked: k.Revoked,
		Failures: k.Failures, LastError: k.LastError, NextAttempt: k.NextAttempt, WaitUntil: k.WaitUntil, ProxyAsked: k.ProxyAsked, Tries: k.Tries, Proposed: k.Proposed, Transient: k.Transient, AskAgain: k.AskAgain,
	}
}

func (f keptFile) kept(path string) *Kept {
	return &Kept{
		Wanted: Wanted{Name: f.Name, Source: f.Source, Names: f.Names, Mode: f.Mode, KeyType: f.KeyType, Out: f.Out, Hook: f.Hook, Profile: f.Profile, Layout: f.Layout},
		ID:     f.ID, ETag: f.ETag, Serial: f.Serial, NotAfter: f.NotAfter, HookDue: f.HookDue, Revoking: f.Revoking, Revoked: f.Revoked,
		Failures: f.Failures, LastError: f.LastError, NextAttempt: f.NextAttempt, WaitUntil: f.WaitUntil, ProxyAsked: f.ProxyAsked, Tries: f.Tries, Proposed: f.Proposed, Transient: f.Transient, AskAgain: f.AskAgain,
		Unlisted: f.Unlisted, Former: f.Former, Withdraw: f.Withdraw, Forgetting: f.Forgetting,
		path: path,
	}
}

// readKept reads a state file. It returns fs.ErrNotExist if the certificate is unknown
// or was forgotten.
func readKept(path string) (*Kept, error) {
	data, err := localfile.Read(path) // it names a command to run
	if err != nil {
		return nil, fmt.Errorf("state-dir: %w", err)
	}
	k, err := parseKept(data, path)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %s is damaged: %w; remove it and get the certificate again", path, err)
	}
	k.unpark(time.Now())
	return k, nil
}

func parseKept(data []byte, path string) (*Kept, error) {
	var f keptFile
	if err := json.Unmarshal(data, &f); err != nil {
		return nil, err
	}
	k := f.kept(path)
	return k, errors.Join(k.Validate(), k.Former.validate())
}

// save replaces the state file atomically.
func (k *Kept) save() error {
	if k.store != nil {
		return k.store(k)
	}
	f, err := k.pendingFile(0)
	if err == nil {
		err = f.CloseAtomicallyReplace()
	}
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}

// encode returns the content of the state file.
func (k *Kept) encode() ([]byte, error) {
	data, err := json.MarshalIndent(k.file(), "", "  ")
	return append(data, '\n'), err
}

// growth is the number of bytes by which a state file may grow during an order.
const growth = 4 << 10

// checkStorable returns an error if the certificate's files or the state file cannot be
// written. It writes them to temporary files and removes those. Callers call it before
// they send an order. The caller must hold the lock.
func (k *Kept) checkStorable(ctx context.Context) error {
	if err := outError(k.Probe(ctx, k.Out)); err != nil {
		return err
	}
	k.removeLeftovers()
	f, err := k.pendingFile(growth)
	if err == nil {
		err = errors.Join(f.Sync(), f.Cleanup())
	}
	if err != nil {
		return fmt.Errorf("state-dir: %w", err)
	}
	return nil
}

// pendingFile returns a temporary file with the state, followed by more spaces.
func (k *Kept) pendingFile(more int) (*localfile.Pending, error) {
	dir := filepath.Dir(k.path)
	if err := localfile.MkdirPrivate(dir); err != nil {
		return nil, err
	}
	data, err := k.encode()
	if err != nil {
		return nil, err
	}
	f, err := localfile.NewPending(k.path)
	if err != nil {
		return nil, err
	}
	data = append(data, bytes.Repeat([]byte(" "), more)...)
	if _, err := f.Write(data); err != nil {
		return nil, errors.Join(err, f.Cleanup())
	}
	return f, nil
}
