package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

const pollWait = 30 * time.Second

// breathe is the least pause between two polls.
func breathe(ctx context.Context) error {
	t := time.NewTimer(500 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// pulling is the way of one bundle of agent mode to the disk.
type pulling struct {
	*Getter
	k       *Kept
	newer   string // etag than which a bundle must be newer
	daemon  bool   // keeps to AskAgain
	looked  bool   // the proxy said once how far it is
	asked   bool   // the proxy for a new bundle
	failure int    // how many attempts had failed by then
}

// pull brings the newest bundle of agent mode. Where there is none yet, or only
// one that will not do (it has a key of the type that was wanted before, or is
// sealed to others, or renew asks for another), it waits up to that many long
// polls, negative for as long as it takes, for the proxy to obtain one or to fail.
func (g *Getter) pull(ctx context.Context, k *Kept, polls int, renew bool) error {
	if k.ETag != "" && !onDisk(k) {
		k.ETag = "" // somebody removed or changed the files
	}
	p := &pulling{Getter: g, k: k, newer: k.ETag, daemon: polls >= 0}
	if k.ID == "" {
		if err := p.register(ctx); err != nil {
			return err
		}
		k.ETag = "" // another profile was asked for, so what is here will not do
	}
	if renew {
		if err := p.passPresent(ctx); err != nil {
			return err
		}
	}
	for ; ; polls-- {
		wait := time.Duration(0)
		if k.ETag == "" && (polls != 0 || p.newer != "") && (p.daemon || p.looked) {
			wait = pollWait
		}
		ciphertext, etag, news, err := g.api.Bundle(ctx, k.ID, p.newer, wait)
		switch {
		case isStatus(err, http.StatusNotFound), isStatus(err, http.StatusForbidden), err == nil && !news && k.ETag == "":
			err = p.stillComing(ctx)
		case err == nil && !news:
			return g.runHook(ctx, k)
		case err == nil:
			var b *cert.Bundle
			if b, err = g.open(k, ciphertext); err == nil && keyTypeIs(b, k.KeyType) && b.Serial() != k.Revoked {
				return g.install(ctx, k, b, etag)
			}
			p.newer = etag
			if errors.Is(err, seal.ErrNotForUs) {
				err = p.askAnother(ctx, err)
			}
		}
		if err != nil || polls == 0 {
			return err
		}
		if err := breathe(ctx); err != nil { // a proxy that does not wait must not be hammered
			return err
		}
	}
}

// register makes the certificate managed. To ask again is no error and costs
// nothing.
func (p *pulling) register(ctx context.Context) error {
	if err := p.k.storable(ctx); err != nil {
		return err
	}
	m, err := p.api.Register(ctx, p.k.Names, p.k.KeyType, p.k.Profile)
	if err != nil {
		return err
	}
	p.k.ID = m.ID
	p.emit(acme.Event{Stage: Registered})
	// Perhaps the proxy waits because this host was missing; it knows whether it
	// is too soon.
	waits := m.Failures > 0 && m.Serial == "" || m.Status == api.StatusRevoked
	if waits && !p.asked {
		if err := p.renew(ctx); err != nil && !isStatus(err, http.StatusTooManyRequests) {
			return err
		}
	}
	return p.k.save()
}

// passPresent asks for a new key and certificate, and makes what the proxy has
// now one that will not do.
func (p *pulling) passPresent(ctx context.Context) error {
	_, etag, _, err := p.api.Bundle(ctx, p.k.ID, "", 0)
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusForbidden) {
		p.k.ETag = "" // none yet, or the proxy forgot it: what comes is a new one
		return nil
	}
	if err != nil {
		return err
	}
	if err := p.renew(ctx); err != nil {
		return err
	}
	p.k.ETag, p.newer = "", etag
	return nil
}

// askAnother asks the proxy for a bundle in place of one that is sealed to
// others: this host was enrolled later than that was made.
func (p *pulling) askAnother(ctx context.Context, cause error) error {
	p.k.ETag = ""
	if p.asked {
		return cause
	}
	if p.daemon && p.now().Before(p.k.AskAgain) {
		return fmt.Errorf("%w; the proxy can be asked for another at %s", cause, p.k.AskAgain.Format(time.RFC3339))
	}
	err := p.isRecipient(ctx)
	if err == nil {
		p.emit(acme.Event{Stage: Locked})
		err = p.renew(ctx)
	}
	if err != nil {
		return fmt.Errorf("%w, and there is no other yet: %w", cause, err)
	}
	return nil
}

// isRecipient tells whether another bundle would be of more use: it is sealed to
// those whom the proxy knows.
func (p *pulling) isRecipient(ctx context.Context) error {
	now, err := Open(p.state.Dir, p.state.UserAgent)
	if err != nil {
		return err
	}
	own, err := now.presentRecipient()
	if err != nil {
		return err
	}
	who, err := p.api.Self(ctx)
	if err != nil {
		return err
	}
	if findRecipient(who.Recipients, own) == "" {
		return errors.New("this host's identity is not among the recipients that the proxy has for it; acmeproxy remote rekey brings it there")
	}
	return nil
}

// renew asks for a new bundle now. The proxy may want it later.
func (p *pulling) renew(ctx context.Context) error {
	if err := p.k.storable(ctx); err != nil {
		return err
	}
	m, err := p.api.Renew(ctx, p.k.ID)
	var problem *api.Problem
	if errors.As(err, &problem) && problem.Status == http.StatusTooManyRequests {
		wait := max(time.Duration(problem.RetryAfter)*time.Second, time.Minute)
		p.k.AskAgain = p.now().Add(wait).UTC().Truncate(time.Second)
	}
	if err != nil {
		return err
	}
	p.asked, p.failure = true, m.Failures
	return nil
}

// notSoon is how long nobody waits for the proxy to begin.
const notSoon = 2 * time.Minute

// stillComing tells a certificate that is on its way from one that failed.
func (p *pulling) stillComing(ctx context.Context) error {
	m, err := p.api.Certificate(ctx, p.k.ID)
	if isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusForbidden) {
		p.k.ETag = "" // the proxy forgot it, or is another one now
		return p.register(ctx)
	}
	if err != nil {
		return err
	}
	first := !p.looked && !p.daemon
	p.looked = true
	left, scheduled := m.Until(p.now())
	atWork := scheduled && left == 0
	if m.Failures > p.failure && (!first || !atWork) {
		next := ""
		if m.NextAttempt != nil {
			next = "; the proxy tries again at " + m.NextAttempt.UTC().Format(time.RFC3339)
		}
		return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("the proxy has no certificate yet: %s%s", printable(m.LastError), next)}
	}
	if m.Status == api.StatusSuperseded { // perhaps this host may have the names again
		return p.register(ctx)
	}
	if left > notSoon {
		if err := p.notNow(ctx, m); err != nil {
			return err
		}
	}
	p.emit(acme.Event{Stage: Waiting})
	return nil
}

// notNow returns an error that says when the proxy asks the CA. It returns nil
// if a bundle came in the meantime or the proxy begins now, and for a daemon,
// which waits.
func (p *pulling) notNow(ctx context.Context, m api.Certificate) error {
	if m.Status != api.StatusPending {
		if p.daemon {
			return nil
		}
		_, _, news, err := p.api.Bundle(ctx, p.k.ID, p.newer, 0)
		if err == nil && news {
			return nil
		}
		// The proxy knows by its own clock whether it is too soon.
		if err := p.renew(ctx); err == nil || !isStatus(err, http.StatusTooManyRequests) {
			return err
		}
	}
	what := "no certificate"
	if m.Serial != "" {
		what = "no other certificate"
	}
	return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf(
		"the proxy has %s yet: these names were asked for several times in a short while; it asks the CA at %s",
		what, m.NextAttempt.UTC().Format(time.RFC3339))}
}
