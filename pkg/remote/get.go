package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"path/filepath"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/hook"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Getter gets certificates from the proxy and writes them to the disk.
type Getter struct {
	state *State
	api   *Client
	emit  func(acme.Event)
	now   func() time.Time

	timing   Timing
	unstored unstored
}

// Getter returns a Getter that reports progress to emit, which may be nil.
func (s *State) Getter(emit func(acme.Event)) (*Getter, error) {
	client, err := s.API()
	if err != nil {
		return nil, err
	}
	if emit == nil {
		emit = func(acme.Event) {}
	}
	return &Getter{state: s, api: client, emit: emit, now: time.Now, timing: s.Timing.withDefaults()}, nil
}

// The stages of agent mode that a remote can observe.
const (
	Registered acme.Stage = "registered" // the proxy manages the certificate from now on
	Waiting    acme.Stage = "waiting"    // for the proxy to obtain it
	Locked     acme.Stage = "locked"     // sealed to others; the proxy is asked for a new one
)

// Get gets one certificate now, writes it to the disk and runs its hook if the files
// changed. It also stores the request, so that Run renews the certificate. If the
// certificate on the disk is good and not due, Get orders none.
func (g *Getter) Get(ctx context.Context, w Wanted) (*Kept, error) {
	return g.GetWith(ctx, w, GetOptions{})
}

// Renew works like Get, but always gets a new key and certificate.
func (g *Getter) Renew(ctx context.Context, w Wanted) (*Kept, error) {
	return g.GetWith(ctx, w, GetOptions{Renew: true})
}

// GetWith works like Get, with decisions of the administrator. It returns a
// *NamesError if the certificate with that stored name has other names, a *FolderError
// if the folder belongs to another certificate of this host, and errors that wrap
// *certfile.OwnedError or *certfile.ForeignFilesError if it belongs to another
// installation or program. Then nothing is ordered.
func (g *Getter) GetWith(ctx context.Context, w Wanted, o GetOptions) (*Kept, error) {
	k, done, err := g.state.take(ctx, w, o)
	if err != nil {
		return nil, err
	}
	defer done()
	if k.Revoking != nil {
		k.Revoking.Forget = false // it is wanted again
	}
	k.Forgetting = nil
	if k.Mode.IsUnattended() {
		serial := k.Serial
		err = g.pull(ctx, k, commandPull(o.Renew))
		k.unchanged = serial != "" && k.Serial == serial
	} else {
		err = g.obtainIfDue(ctx, k, o)
	}
	if err == nil && k.LastError != "" { // of an earlier attempt; the present bundle is the newest
		k.Failures, k.LastError, k.NextAttempt, k.WaitUntil, k.Transient = 0, "", time.Time{}, time.Time{}, false
		err = k.save()
	}
	if err == nil {
		return k, g.withdrawNow(ctx, k)
	}
	if ctx.Err() != nil || o.Renew && isStatus(err, http.StatusTooManyRequests) { // nothing failed
		return k, err
	}
	return k, g.recordFailure(k, err)
}

// recordFailure adds the failure of a command to the stored state. It stores nothing if
// the proxy has not accepted the names. A new certificate of gateway mode is stored,
// because the attempt counts, and so that the daemon retries as in agent mode. Other names
// of a stored certificate in gateway mode are stored as a proposal.
func (g *Getter) recordFailure(k *Kept, failure error) error {
	if k.proposed != nil {
		return g.keepFailure(k.proposed, failure)
	}
	stored, err := readNamed(k)
	isNew := errors.Is(err, fs.ErrNotExist)
	switch {
	case isNew && (k.Mode.IsUnattended() || !isOfCA(failure)):
		return failure
	case isNew:
		k.Tries, k.counted = append(k.Tries, g.now().UTC().Truncate(time.Second)), true
		return g.keepFailure(k, failure)
	case err != nil:
		return errors.Join(failure, err)
	case !stored.Names.Equal(k.Names) || stored.Mode != k.Mode:
		return failure
	case !k.Mode.IsUnattended():
		return g.keepFailure(k, failure)
	}
	stored.LastError = failure.Error()
	if err := stored.save(); err != nil {
		return errors.Join(failure, err)
	}
	return failure
}

// isOfCA reports whether the CA, and not the proxy, refused a request in gateway mode.
func isOfCA(failure error) bool {
	var p *api.Problem
	return errors.As(failure, &p) && strings.HasPrefix(p.Type, "urn:ietf:params:acme:error:")
}

// withdrawNow withdraws replaced certificates. The daemon repeats what the proxy did
// not do.
func (g *Getter) withdrawNow(ctx context.Context, k *Kept) error {
	err := g.withdraw(ctx, k)
	if local := (*fs.PathError)(nil); errors.As(err, &local) {
		return err
	}
	return nil
}

// obtainIfDue obtains a certificate through the gateway, unless the one on the disk is
// good. Then it only fixes its files, and runs the hook if that is due.
func (g *Getter) obtainIfDue(ctx context.Context, k *Kept, o GetOptions) error {
	foreign, err := k.Foreign(k.Out)
	if err != nil {
		return outError(err)
	}
	have := g.usable(k)
	if o.Renew || k.outdated || have == nil || len(foreign) > 0 {
		if err := g.countPerson(k); err != nil {
			return err
		}
		return g.obtain(ctx, k)
	}
	k.unchanged = true
	return g.install(ctx, k, have, "")
}

// usable returns the certificate on the disk, or nil if it is not what is wanted, is
// due for renewal, or was revoked.
func (g *Getter) usable(k *Kept) *cert.Bundle {
	if f := k.Former; f != nil && (f.AgentTried || f.Names.Equal(k.Names)) { // the proxy may know the key
		return nil
	}
	have, err := certfile.Read(k.Out)
	if err != nil || !hasNames(have, k.Names) || !hasKeyType(have, k.KeyType) || !g.now().Before(have.RenewAt()) {
		return nil
	}
	if have.Serial() == k.Revoked || g.state.hasRevoked(have.Serial()) {
		return nil
	}
	return have
}

// obtain gets a new certificate through the gateway. It orders none that cannot be
// stored. If the disk fails nevertheless, the certificate stays in memory.
func (g *Getter) obtain(ctx context.Context, k *Kept) error {
	if b := g.unstored.take(k); b != nil && g.checkFresh(b, nil) == nil && g.now().Before(b.RenewAt()) {
		return g.installOrHold(ctx, k, b)
	}
	if err := k.checkStorable(ctx); err != nil {
		return &noOrderError{err}
	}
	bundle, err := g.api.Issue(ctx, cert.Request{Names: k.Names, KeyType: k.KeyType, Profile: k.Profile}, g.emit)
	if err != nil {
		return err
	}
	return g.installOrHold(ctx, k, bundle)
}

func (g *Getter) installOrHold(ctx context.Context, k *Kept, b *cert.Bundle) error {
	err := g.install(ctx, k, b, "")
	if err != nil && k.Serial != b.Serial() {
		g.unstored.hold(k, b)
	}
	return err
}

// open decrypts a bundle and checks it against the request.
func (g *Getter) open(k *Kept, ciphertext []byte) (*cert.Bundle, error) {
	ids, err := g.state.identities()
	if err != nil {
		return nil, err
	}
	plain, err := seal.Open(ciphertext, ids...)
	if err != nil {
		return nil, fmt.Errorf("the bundle cannot be opened: %w", err)
	}
	b, err := cert.ParseBundle(plain)
	if err != nil {
		return nil, fmt.Errorf("the proxy's bundle is refused: %w", err)
	}
	if b.Key == nil {
		return nil, errors.New("the proxy's bundle has no key: it was registered with a CSR, so only the owner of that key can use it")
	}
	if _, err := cert.KeyTypeOf(b.Key.Public()); err != nil {
		return nil, fmt.Errorf("the proxy's bundle is refused: its %w", err)
	}
	if b, err = cert.NewBundle(b.FullchainPEM(), b.Key, b.Key.Public(), k.Names); err != nil {
		return nil, fmt.Errorf("the proxy's bundle is refused: %w", err)
	}
	return b, nil
}

// install writes a bundle to the disk, in an order in which a crash loses nothing:
// it marks the hook as due before the files change, and stores the ETag afterwards.
func (g *Getter) install(ctx context.Context, k *Kept, b *cert.Bundle, etag string) error {
	have, err := certfile.Read(k.Out)
	if err != nil || !hasNames(have, k.Names) {
		have = nil // no certificate to compare with
	}
	if b.Serial() == k.Revoked {
		return errRevoked
	}
	if have != nil && have.Serial() == k.Revoked {
		have = nil // any other certificate is better
	}
	if err := g.checkFresh(b, have); err != nil {
		return err
	}
	if have == nil || !k.Holds(k.Out, b) { // else the hook ran for it, or is due already
		k.HookDue = k.Hook != ""
		if err := k.save(); err != nil {
			return err
		}
		if err := k.WriteAs(ctx, k.Out, b, k.claim()); err != nil {
			return cmp.Or(claimError(err), err)
		}
		k.hookFailed = nil // it is due for other files
	} else {
		k.adopt(ctx)
	}
	k.ETag, k.Serial, k.NotAfter = etag, b.Serial(), b.NotAfter().UTC()
	k.Failures, k.LastError, k.NextAttempt, k.WaitUntil, k.AskAgain, k.Revoked = 0, "", time.Time{}, time.Time{}, time.Time{}, ""
	k.Tries, k.counted, k.Proposed = nil, false, nil
	k.settleFormer()
	if err := k.save(); err != nil {
		return err
	}
	return g.runHook(ctx, k)
}

// tolerance is the accepted clock error. A certificate from the future would make all
// later ones look older than itself.
const tolerance = 24 * time.Hour

// checkFresh returns an error for a certificate that is not usable now, or older than
// have, the one in use. have may be nil.
func (g *Getter) checkFresh(b, have *cert.Bundle) error {
	switch now := g.now(); {
	case b.NotAfter().Before(now):
		return fmt.Errorf("the proxy sent a certificate that expired at %s, check this host's clock; the files stay as they are", printable.Time(b.NotAfter()))
	case b.Leaf.NotBefore.After(now.Add(tolerance)):
		return fmt.Errorf("the proxy sent a certificate that is not valid before %s, check this host's clock; the files stay as they are", printable.Time(b.Leaf.NotBefore))
	case have != nil && b.Leaf.NotBefore.Before(have.Leaf.NotBefore) && have.NotAfter().After(now):
		return errors.New("the proxy sent an older certificate than the one in use; the files stay as they are")
	}
	return nil
}

func hasNames(b *cert.Bundle, names cert.Names) bool {
	got, err := b.Names()
	return err == nil && got.Equal(names)
}

// isOnDisk reports whether the files are still those that were installed, in the
// layout that is wanted now.
func isOnDisk(k *Kept) bool {
	have, err := certfile.Read(k.Out)
	return err == nil && have.Serial() == k.Serial && k.Holds(k.Out, have)
}

// HookError reports that a certificate is installed, but that its hook has failed. The
// hook stays due until it succeeds.
type HookError struct{ Err error }

func (e *HookError) Error() string {
	return "the certificate is installed, but its hook failed: " + strings.TrimPrefix(e.Err.Error(), "hook: ")
}

// Unwrap returns the cause, usually a *hook.Error.
func (e *HookError) Unwrap() error { return e.Err }

// runHook runs the hook if it is due. If the hook fails, it stays due.
func (g *Getter) runHook(ctx context.Context, k *Kept) error {
	if !k.HookDue || k.Hook == "" || k.hookFailed != nil {
		return k.hookFailed
	}
	event := hook.Event{
		Names: k.Names, Dir: k.Out, Mode: string(k.Mode), Serial: k.Serial, NotAfter: k.NotAfter,
		CertPath:      filepath.Join(k.Out, certfile.Cert),
		ChainPath:     filepath.Join(k.Out, certfile.Chain),
		FullchainPath: filepath.Join(k.Out, certfile.Fullchain),
		KeyPath:       filepath.Join(k.Out, certfile.Key),
	}
	if err := (hook.Hook{Command: k.Hook, Environ: g.state.Environ, Timeout: g.timing.Hook}).Run(ctx, event); err != nil {
		k.hookFailed = &HookError{err}
		return k.hookFailed
	}
	k.HookDue = false
	return k.save()
}

func isStatus(err error, status int) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status == status
}
