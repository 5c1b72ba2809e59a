package remote

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// revoking is a revocation request that is stored before it is sent. It can be sent
// again even if the files have changed. The proof is no secret, because it is valid
// only for this revocation.
type revoking struct {
	Serial string `json:"serial"`
	api.RevokeRequest
}

var errRevoked = errors.New("the proxy sent the certificate that was revoked; the files stay as they are")

// ErrReplacedLater means that the proxy pauses before it replaces the revoked
// certificate. The pause does not apply to another key type.
var ErrReplacedLater = errors.New("the proxy replaces the revoked certificate later")

// Revoked holds the result of a revocation.
type Revoked struct {
	Names  cert.Names
	Mode   clients.Mode
	Serial string // of the certificate that is revoked
	Reason cert.Reason
	// Certificate replaced the revoked one. It is nil if no other is wanted or exists yet.
	Certificate *Kept
}

// ReplaceError reports that a certificate is revoked, but not replaced yet.
type ReplaceError struct {
	Serial string
	Err    error
}

func (e *ReplaceError) Error() string {
	return fmt.Sprintf("certificate %s IS revoked, but its files and the services that use it are as they were: %v", e.Serial, e.Err)
}

func (e *ReplaceError) Unwrap() error { return e.Err }

// KeptAs returns the certificate of these names and that mode. If mode is empty, it
// returns the certificate of either mode. If several match, it returns an
// *AmbiguousError, and fs.ErrNotExist if none does.
func (s *State) KeptAs(names cert.Names, mode clients.Mode) (*Kept, error) {
	return s.lookupOne(names, mode)
}

// lookupOne works like Lookup, but returns an *AmbiguousError for several.
func (s *State) lookupOne(given []string, mode clients.Mode) (*Kept, error) {
	found, err := s.Lookup(given, mode)
	if err != nil {
		return nil, err
	}
	if len(found) > 1 {
		return nil, ambiguous(found)
	}
	return found[0], nil
}

// Revoke revokes the certificate on this host's disk and replaces it by one with
// another key. With forget, Revoke does not replace it but stops its renewal; the files
// stay. Once it is revoked, Revoke returns a result, and all errors are *ReplaceError.
// Run completes a revocation after a crash or an error.
func (g *Getter) Revoke(ctx context.Context, listed *Kept, reason cert.Reason, forget bool) (*Revoked, error) {
	unlock, err := listed.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	k, err := readNamed(listed) // another process may have changed it
	if err == nil {
		err = listed.Conflict()
	}
	if err != nil {
		return nil, err
	}
	have, err := certfile.Read(k.Out)
	if err != nil {
		return nil, fmt.Errorf("the certificate that is to be revoked: %w", err)
	}
	if !hasNames(have, k.Names) {
		return nil, fmt.Errorf("the certificate in %s is for other names, so it was not revoked", k.Out)
	}
	if k.Revoking != nil && k.Revoking.Serial != have.Serial() { // of an older certificate, with an unknown result
		if _, err := g.finishRevoking(ctx, k); err != nil || k.forgotten {
			return nil, errors.Join(err, errors.New("run the same command again"))
		}
	}
	var answer api.Revocation
	if k.Revoked != have.Serial() || forget || k.Mode.IsUnattended() { // in agent mode repeating is harmless
		if err := k.prepareRevoking(have, reason, forget); err != nil {
			return nil, err
		}
		if answer, err = g.finishRevoking(ctx, k); err != nil {
			return nil, err
		}
	}
	done := &Revoked{Names: k.Names, Mode: k.Mode, Serial: have.Serial(), Reason: reason}
	if k.forgotten {
		return done, nil
	}
	if err := g.replace(ctx, k, answer); err != nil {
		return done, &ReplaceError{done.Serial, err}
	}
	done.Certificate = k
	return done, nil
}

// prepareRevoking stores the request for the proxy.
func (k *Kept) prepareRevoking(have *cert.Bundle, reason cert.Reason, forget bool) error {
	if have.Key == nil {
		return fmt.Errorf("the folder %s has no key of the certificate, which must prove that it is this host's", k.Out)
	}
	proof, err := cert.ProveRevocation(have.Key, have.Leaf.Raw, reason)
	if err != nil {
		return err
	}
	k.Revoking = &revoking{Serial: have.Serial(), RevokeRequest: api.RevokeRequest{
		Certificate: string(have.LeafPEM()), Reason: string(reason), Proof: base64.StdEncoding.EncodeToString(proof), Forget: forget,
	}}
	return k.save()
}

// finishRevoking sends the stored request. It removes k.Revoking when the answer is
// known, and sets k.Revoked if the certificate is revoked. The caller must hold the
// lock.
func (g *Getter) finishRevoking(ctx context.Context, k *Kept) (api.Revocation, error) {
	ask := k.Revoking
	answer, err := g.api.Revoke(ctx, ask.RevokeRequest)
	if err != nil {
		if isRefusal(err) {
			k.Revoking = nil
			return answer, errors.Join(err, k.save())
		}
		return answer, asIssuerError("", fmt.Errorf("whether certificate %s is revoked is not known yet; \"acmeproxy remote run\" asks again, and so does the same command: %w", ask.Serial, err))
	}
	if ask.Forget {
		return answer, g.forgetRevoked(ctx, k, answer)
	}
	k.Revoking, k.Revoked = nil, ask.Serial
	k.ETag, k.Failures, k.LastError, k.NextAttempt = "", 0, "", time.Time{}
	return answer, k.save()
}

// isRefusal reports whether err is the proxy's final refusal. After any other error,
// such as a rate limit, an earlier request may have succeeded.
func isRefusal(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusRequestTimeout && p.Status != http.StatusTooManyRequests
}

// forgetRevoked stops the renewal of a revoked certificate. If the proxy manages a
// newer one for this host, forgetRevoked deletes that, too.
func (g *Getter) forgetRevoked(ctx context.Context, k *Kept, answer api.Revocation) error {
	if k.Mode.IsUnattended() && k.ID != "" && k.ID != answer.ID {
		if err := g.api.Delete(ctx, k.ID, false); err != nil && !isRefusal(err) {
			return fmt.Errorf("certificate %s IS revoked, but the proxy still manages these names: %w", answer.Serial, err)
		}
	}
	if err := k.removeFiles(); err != nil {
		return fmt.Errorf("certificate %s IS revoked, but it is still kept: %w", answer.Serial, err)
	}
	k.forgotten = true
	return nil
}

// replace gets another certificate instead of the revoked one.
func (g *Getter) replace(ctx context.Context, k *Kept, answer api.Revocation) error {
	if err := k.Ready(); err != nil {
		return err
	}
	if !k.Mode.IsUnattended() {
		return g.obtain(ctx, k)
	}
	if time.Duration(answer.RetryAfter)*time.Second > g.timing.ReplaceSoon && answer.NextAttempt != nil {
		return &acme.Error{Kind: acme.Temporary, Err: ErrReplacedLater, Detail: "the proxy obtains another at " +
			printable.Time(*answer.NextAttempt) + ", because the last attempt at this certificate was a short while ago"}
	}
	return g.pull(ctx, k, commandPull(false))
}
