package remote

import (
	"context"
	"crypto"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// The files of the state directory.
const (
	enrolmentName    = "remote.json"
	keyName          = "key.pem"
	identityName     = "identity.age"
	oldIdentityName  = "identity-old.age" // identities before the last rekeys
	nextSuffix       = ".next"            // of the files of an unfinished rekey
	certificatesName = "certificates"
	lockName         = "lock"
)

// EnrolmentFiles returns the files of a state directory that Enroll creates again if they
// are moved away. The host's certificates and identity are in others.
func EnrolmentFiles(dir string) []string {
	return []string{filepath.Join(dir, enrolmentName), filepath.Join(dir, keyName)}
}

// ErrNotEnrolled means that the state directory holds no enrolment.
var ErrNotEnrolled = errors.New("not enrolled at a proxy yet: ask its administrator for a token (acmeproxy clients add), then run acmeproxy remote enroll TOKEN; if this host is enrolled, run this as the user that did it, usually root, or set --state-dir")

// State is the directory with a remote's keys and the state of its certificates.
type State struct {
	Dir       string
	UserAgent string
	Timing    Timing
	Environment
	enrolment enrolment
}

// Environment holds the variables that a remote may use.
type Environment struct {
	Getenv  func(string) string // for HTTPS_PROXY and its like; if nil, connections are direct
	Environ []string            // inherited by hooks, as NAME=value
}

// enrolment is the content of remote.json. It contains no secret.
type enrolment struct {
	URL        string         `json:"url"`
	Pin        string         `json:"pin"` // SHA-256 of the proxy's SPKI, hexadecimal
	Client     string         `json:"client"`
	Modes      []clients.Mode `json:"modes"`
	Identity   string         `json:"identity,omitempty"`          // a file; if empty, identity.age in this directory
	Former     []string       `json:"former_identities,omitempty"` // earlier values of Identity
	EnrolledAt time.Time      `json:"enrolled_at"`
}

// Open reads the state directory. It returns ErrNotEnrolled if there is no enrolment.
func Open(dir, userAgent string) (*State, error) {
	e, err := readEnrolment(filepath.Join(dir, enrolmentName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("state-dir: %s: %w", dir, ErrNotEnrolled)
	}
	if err != nil {
		return nil, err
	}
	return &State{Dir: dir, UserAgent: userAgent, enrolment: e}, nil
}

// reopen reads the state directory again, which another process may have changed.
func (s *State) reopen() (*State, error) {
	now, err := Open(s.Dir, s.UserAgent)
	if err == nil {
		now.Timing, now.Environment = s.Timing, s.Environment
	}
	return now, err
}

func readEnrolment(path string) (e enrolment, err error) {
	data, err := localfile.Read(path)
	if foreign := (*localfile.ForeignError)(nil); errors.As(err, &foreign) {
		return e, fmt.Errorf("state-dir: %w", err)
	}
	if err != nil {
		return e, fmt.Errorf("state-dir: %w; run as the user that enrolled, or use another with --state-dir", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, fmt.Errorf("state-dir: %s is damaged (%w); enrol again", path, err)
	}
	if !strings.HasPrefix(e.URL, "https://") {
		return e, fmt.Errorf("state-dir: %s is damaged (no https:// url); enrol again", path)
	}
	return e, nil
}

func (e enrolment) write(path string) error {
	data, err := json.MarshalIndent(e, "", "  ")
	if err != nil {
		return err
	}
	return writeState(path, append(data, '\n'))
}

// EnrollOptions holds the optional parameters of Enroll.
type EnrollOptions struct {
	Identity   string   // age or SSH private key file that opens bundles; if empty, Enroll creates one
	Recipients []string // further recipients of this client's bundles
	// Busy, if not nil, is called with the delay before Enroll asks a busy proxy again.
	Busy   func(again time.Duration)
	Timing Timing // also used by the State that Enroll returns
	Environment
}

// retryWhileBusy repeats ask, at most for that long, while the proxy is busy and sends
// a Retry-After. Unauthenticated clients can occupy all connections for a short time.
func retryWhileBusy(ctx context.Context, most time.Duration, notify func(time.Duration), ask func() error) error {
	for last := time.Now().Add(most); ; {
		err := ask()
		var p *api.Problem
		if !errors.As(err, &p) || p.RetryAfter <= 0 || p.Status != http.StatusServiceUnavailable && p.Status != http.StatusTooManyRequests {
			return err
		}
		wait := time.Duration(p.RetryAfter) * time.Second
		if time.Now().Add(wait).After(last) {
			return err
		}
		if notify != nil {
			notify(wait)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// Enroll registers this host at the proxy of the token and stores its keys and the
// enrolment in dir. It overwrites nothing, and returns an error if dir holds an
// enrolment already.
func Enroll(ctx context.Context, dir, userAgent string, token auth.EnrollToken, opts EnrollOptions) (*State, error) {
	if err := envproxy.Check(opts.Getenv, envproxy.HTTPS); err != nil {
		return nil, err
	}
	if err := localfile.MkdirPrivate(dir); err != nil {
		return nil, fmt.Errorf("state-dir: %w; use another with --state-dir", err)
	}
	unlock, err := lock(ctx, filepath.Join(dir, lockName)) // two concurrent calls would create two keys
	if err != nil {
		return nil, err
	}
	defer unlock()
	removeLeftovers(dir, stateFile)
	old, err := Open(dir, userAgent)
	if foreign := (*localfile.ForeignError)(nil); errors.As(err, &foreign) {
		return nil, err
	}
	if err == nil {
		return nil, fmt.Errorf("state-dir: %s is enrolled as %q at %s already; to enrol it again, move %s and %s in it away; for another client, use another state-dir", dir, old.Client(), old.URL(), enrolmentName, keyName)
	}
	for _, name := range []string{keyName, identityName} { // left by an enrolment that was interrupted
		if err := localfile.CheckOwn(filepath.Join(dir, name)); err != nil {
			return nil, fmt.Errorf("state-dir: %w", err)
		}
	}
	s := &State{Dir: dir, UserAgent: userAgent, Timing: opts.Timing, Environment: opts.Environment, enrolment: enrolment{
		URL: token.URL, Pin: hex.EncodeToString(token.ProxyPin[:]), Identity: opts.Identity, EnrolledAt: time.Now().UTC().Truncate(time.Second),
	}}
	if opts.Identity != "" {
		if err := checkAdoptable(opts.Identity); err != nil {
			return nil, err
		}
	}
	own, err := s.recipientOf(s.identityFile())
	if err != nil {
		return nil, err
	}
	recipients := seal.CanonicalList(append([]string{own}, opts.Recipients...))
	if len(recipients) > api.MaxEnrollRecipients {
		return nil, fmt.Errorf("recipient: %d with this host's own are too many; enrol with at most %d", len(recipients), api.MaxEnrollRecipients)
	}
	if _, err := seal.ParseRecipients(recipients); err != nil {
		return nil, err
	}
	client, err := s.client(keyName)
	if err != nil {
		return nil, err
	}
	var who api.Client
	err = retryWhileBusy(ctx, s.Timing.withDefaults().Busy, opts.Busy, func() (err error) {
		who, err = client.Enroll(ctx, token, recipients)
		return err
	})
	if err != nil {
		return nil, err
	}
	s.enrolment.Client = who.Name
	s.enrolment.Modes = modesOf(who)
	if err := s.enrolment.write(filepath.Join(dir, enrolmentName)); err != nil {
		return nil, fmt.Errorf("state-dir: %w; the token is used, but running the same command again works", err)
	}
	return s, nil
}

func modesOf(who api.Client) []clients.Mode {
	var modes []clients.Mode
	for _, mode := range clients.NativeModes() {
		for _, g := range who.Grants {
			if slices.Contains(g.Modes, mode) && !slices.Contains(modes, mode) {
				modes = append(modes, mode)
			}
		}
	}
	return modes
}

// Client returns this host's name at the proxy.
func (s *State) Client() string { return s.enrolment.Client }

// URL returns the proxy's URL.
func (s *State) URL() string { return s.enrolment.URL }

// DefaultMode returns the first mode that this client may use.
func (s *State) DefaultMode() clients.Mode {
	for _, mode := range clients.NativeModes() {
		if slices.Contains(s.enrolment.Modes, mode) {
			return mode
		}
	}
	return clients.NativeModes()[0]
}

// API returns a client of the proxy. When this process or another replaces the TLS
// key by a rekey, the client continues with the new key.
func (s *State) API() (*Client, error) {
	c, err := s.client(keyName)
	if err == nil {
		c.otherKey = s.otherKey
	}
	return c, err
}

// client returns a client that uses only the TLS key of that file.
func (s *State) client(keyFile string) (*Client, error) {
	if err := envproxy.Check(s.Getenv, envproxy.HTTPS); err != nil {
		return nil, err
	}
	var pin [32]byte
	raw, err := hex.DecodeString(s.enrolment.Pin)
	if err != nil || len(raw) != len(pin) {
		return nil, fmt.Errorf("state-dir: the pin in %s is damaged; enrol again", enrolmentName)
	}
	copy(pin[:], raw)
	key, err := s.tlsKey(keyFile)
	if err != nil {
		return nil, err
	}
	return s.newClient(pin, *key), nil
}

// tlsKey loads this host's TLS key. It creates the key if it is missing.
func (s *State) tlsKey(file string) (*tls.Certificate, error) {
	key, err := s.signer(file)
	if err != nil {
		return nil, err
	}
	return cert.SelfSigned(key, "acmeproxy remote")
}

func (s *State) signer(file string) (crypto.Signer, error) {
	path := filepath.Join(s.Dir, file)
	data, err := localfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		data, err = createKey(path)
	}
	if err != nil {
		return nil, fmt.Errorf("state-dir: the TLS key: %w", err)
	}
	key, err := cert.ParseKey(data)
	if err != nil {
		return nil, fmt.Errorf("state-dir: %s: %w; enrol again", path, err)
	}
	return key, nil
}

func createKey(path string) ([]byte, error) {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return nil, err
	}
	data, err := cert.MarshalKey(key)
	if err != nil {
		return nil, err
	}
	return data, writeState(path, data)
}
