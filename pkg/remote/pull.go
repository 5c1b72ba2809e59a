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
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// pullOptions holds the differences between the daemon and an administrator's command.
type pullOptions struct {
	renew        bool // get a new key and certificate even if the present ones are not due
	maxQuestions int  // requests for the bundle; if 0, until one comes or the proxy fails
	// reportFirst makes the first request without a long poll, to report the proxy's
	// state.
	reportFirst bool
	// tryNow requests an attempt if the proxy's last one failed, because a person acted.
	// An earlier failure is no error then: pull waits for the attempt that it requested,
	// or that was under way.
	tryNow bool
	// newerDoes makes renew accept a bundle that the proxy has already, if it is newer
	// than the certificate on the disk.
	newerDoes bool
	keepPause bool // do not ask for another bundle before Kept.AskAgain
	waitLong  bool // accept that the proxy's next attempt is far away
}

// daemonPull returns the options of one turn of the daemon.
func daemonPull() pullOptions { return pullOptions{maxQuestions: 2, keepPause: true, waitLong: true} }

// firstPull returns the options of the daemon's first turn after a person started it,
// or changed its settings.
func firstPull() pullOptions {
	return pullOptions{maxQuestions: 3, reportFirst: true, tryNow: true, keepPause: true, waitLong: true}
}

// commandPull returns the options of a command for which an administrator waits.
func commandPull(renew bool) pullOptions {
	return pullOptions{reportFirst: true, tryNow: true, renew: renew}
}

// pulling is the state machine that gets one bundle of agent mode and installs it:
//
//	start → register → discardPresent → ask → open → install
//	                                     ├ checkProgress → registerAgain, askNow, wait ┐
//	                                     ├ checkRenewal → registerAgain, askNow, wait ─┤
//	                                     ├ checkRefused → registerAgain, wait ─────────┤
//	                                     └───── pause ← askAnother ← open ─────────────┘
type pulling struct {
	*Getter
	k    *Kept
	opts pullOptions

	newer     string // ETag of the present bundle; only a newer one is accepted
	questions int    // requests for the bundle so far
	reported  bool   // the proxy's state was reported once
	asked     bool   // the proxy was asked for a new bundle
	started   bool   // the proxy was asked to begin, without a long poll since
	awaits    bool   // an attempt is awaited, which was requested or joined
	joined    bool   // it began earlier, so if it fails, another one is requested
	repeated  bool   // that one was requested
	before    failed // the last failure when it was requested or joined
	ready     bool   // the present bundle is usable, and a newer one is awaited

	// Results that one state leaves for the next.
	ciphertext  []byte          // for open
	etag        string          // for open and install
	bundle      *cert.Bundle    // for install
	unopened    error           // for askAnother
	certificate api.Certificate // for askNow
}

// step runs a state and returns the next one, or nil at the end.
type step func(context.Context) (step, error)

// pull gets the newest bundle of agent mode and installs it. If the proxy has no usable
// bundle yet, pull waits until the proxy obtains one or fails. A bundle is unusable if
// its key has another type, it is sealed to others, it is revoked, or opts.renew is set.
func (g *Getter) pull(ctx context.Context, k *Kept, opts pullOptions) error {
	p := &pulling{Getter: g, k: k, opts: opts}
	for next := p.start; next != nil; {
		var err error
		if next, err = next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// start compares the state with the disk.
func (p *pulling) start(context.Context) (step, error) {
	if p.k.ETag != "" && !isOnDisk(p.k) {
		p.k.ETag = "" // the files were removed or changed
	}
	p.newer = p.k.ETag
	switch {
	case p.k.ID == "":
		return p.register, nil
	case p.opts.renew:
		return p.discardPresent, nil
	}
	return p.ask, nil
}

// register registers the certificate for the first time, or with another profile. In
// both cases the present bundle is not usable.
func (p *pulling) register(ctx context.Context) (step, error) {
	if err := p.manage(ctx); err != nil {
		return nil, err
	}
	p.k.ETag = ""
	if p.opts.renew {
		return p.discardPresent, nil
	}
	return p.ask, nil
}

// registerAgain registers a certificate that the proxy no longer manages.
func (p *pulling) registerAgain(ctx context.Context) (step, error) {
	return p.pause, p.manage(ctx)
}

// manage asks the proxy to manage the certificate. It may be repeated, without an
// order.
func (p *pulling) manage(ctx context.Context) error {
	if err := p.k.checkStorable(ctx); err != nil {
		return err
	}
	m, err := p.api.Register(ctx, p.k.Names, p.k.KeyType, p.k.Profile)
	if err != nil {
		return err
	}
	p.k.ID = m.ID
	p.emit(acme.Event{Stage: Registered})
	// The proxy may be waiting because this host was not enrolled. It refuses a
	// renewal that is too early.
	waits := m.Failures > 0 && m.Serial == "" || m.Status == api.StatusRevoked
	switch {
	case p.isUnderWay(m):
		p.await(m)
	case waits && !p.asked:
		if err := p.renew(ctx); err != nil && !isStatus(err, http.StatusTooManyRequests) {
			return err
		}
	}
	return p.k.save()
}

// discardPresent asks for a new key and certificate and discards the present bundle. If
// the proxy refuses, a present bundle that is newer than the one on the disk is
// installed nevertheless: the latter may be revoked.
func (p *pulling) discardPresent(ctx context.Context) (step, error) {
	ciphertext, etag, _, err := p.api.Bundle(ctx, p.k.ID, "", 0)
	if isGone(err) {
		p.k.ETag = "" // the proxy has no bundle, so the next one is new
		return p.ask, nil
	}
	if err != nil {
		return nil, err
	}
	newer := p.newerThanDisk(ciphertext)
	p.bundle, p.etag = newer, etag
	if newer != nil && p.opts.newerDoes && p.now().Before(newer.RenewAt()) {
		return p.install, nil
	}
	if err := p.renew(ctx); err != nil {
		err = p.withLastFailure(ctx, err)
		if newer != nil {
			err = errors.Join(err, p.Getter.install(ctx, p.k, newer, etag))
		}
		return nil, err
	}
	p.k.ETag, p.newer = "", etag
	return p.ask, nil
}

// newerThanDisk returns the certificate in a bundle, or nil if it cannot be used here or
// is not newer than the one on the disk.
func (p *pulling) newerThanDisk(ciphertext []byte) *cert.Bundle {
	b, err := p.Getter.open(p.k, ciphertext)
	if err != nil || !hasKeyType(b, p.k.KeyType) || b.Serial() == p.k.Revoked || p.state.hasRevoked(b.Serial()) {
		return nil
	}
	have, err := certfile.Read(p.k.Out)
	if err == nil && (have.Serial() == b.Serial() || have.Leaf.NotBefore.After(b.Leaf.NotBefore)) {
		return nil
	}
	return b
}

// ask requests a bundle that is newer than the present one.
func (p *pulling) ask(ctx context.Context) (step, error) {
	p.questions++
	ciphertext, etag, news, err := p.api.Bundle(ctx, p.k.ID, p.newer, p.longPoll())
	switch {
	case isGone(err), err == nil && !news && p.k.ETag == "":
		return p.checkProgress, nil
	case err != nil:
		return nil, err
	case !news && p.newer != p.k.ETag:
		return p.checkRefused, nil
	case !news && p.ready:
		return p.checkProgress, nil
	case !news && p.opts.tryNow:
		return p.checkRenewal, p.runHook(ctx, p.k)
	case !news:
		return nil, p.runHook(ctx, p.k)
	}
	p.ciphertext, p.etag = ciphertext, etag
	return p.open, nil
}

// longPoll returns how long the proxy may wait before it answers the next request.
func (p *pulling) longPoll() time.Duration {
	started := p.started
	p.started = false
	switch {
	case started && p.opts.maxQuestions == 0: // it may have failed at once
		return 0
	case p.k.ETag != "" && !p.ready: // the present bundle is usable
		return 0
	case p.opts.reportFirst && !p.reported:
		return 0
	case p.isLast() && p.newer == "": // only check for a bundle that came during the pause
		return 0
	}
	return p.timing.LongPoll
}

func (p *pulling) isLast() bool {
	return p.opts.maxQuestions > 0 && p.questions >= p.opts.maxQuestions
}

// open decrypts the bundle and checks it.
func (p *pulling) open(context.Context) (step, error) {
	b, err := p.Getter.open(p.k, p.ciphertext)
	if err == nil && hasKeyType(b, p.k.KeyType) && b.Serial() != p.k.Revoked {
		p.bundle = b
		return p.install, nil
	}
	p.newer = p.etag
	if errors.Is(err, seal.ErrNotForUs) {
		p.unopened = err
		return p.askAnother, nil
	}
	return p.pause, err
}

// checkRefused returns an error if the proxy's newest bundle is not usable here and no
// other one will come soon. Otherwise the certificate on the disk would expire unnoticed.
func (p *pulling) checkRefused(ctx context.Context) (step, error) {
	m, err := p.api.Certificate(ctx, p.k.ID)
	if isGone(err) {
		return p.registerAgain, nil
	}
	if err != nil {
		return nil, err
	}
	if left, scheduled := m.Until(p.now()); !scheduled || left > p.timing.NotSoon {
		return nil, &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf(
			"the proxy's newest certificate for these names does not have a key of type %s: another host of this client requested another key type; use one key type on all its hosts, or a client for each host", p.k.KeyType)}
	}
	return p.wait, nil
}

// install writes the bundle to the disk.
func (p *pulling) install(ctx context.Context) (step, error) {
	return nil, p.Getter.install(ctx, p.k, p.bundle, p.etag)
}

// askAnother requests a bundle instead of one that is sealed to others, because it was
// sealed before this host was enrolled.
func (p *pulling) askAnother(ctx context.Context) (step, error) {
	p.k.ETag = ""
	if p.asked {
		return nil, p.unopened
	}
	if p.opts.keepPause && p.now().Before(p.k.AskAgain) {
		return nil, fmt.Errorf("%w; the proxy can be asked for another at %s", p.unopened, printable.Time(p.k.AskAgain))
	}
	err := p.checkRecipient(ctx)
	if err == nil {
		p.emit(acme.Event{Stage: Locked})
		err = p.renew(ctx)
	}
	if err != nil {
		return nil, fmt.Errorf("%w, and there is no other yet: %w", p.unopened, err)
	}
	return p.pause, nil
}

// checkRecipient returns an error if this host could not open a new bundle either.
func (p *pulling) checkRecipient(ctx context.Context) error {
	now, err := p.state.reopen()
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
		return errors.New("this host's identity is not among the recipients that the proxy has for it; run acmeproxy remote rekey to add it")
	}
	return nil
}

// renew asks for a new bundle now. The proxy may refuse this for some time.
func (p *pulling) renew(ctx context.Context) error {
	if err := p.k.checkStorable(ctx); err != nil {
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
	p.asked, p.started = true, true
	p.await(m)
	return nil
}

// wait reports that the proxy is working on the certificate.
func (p *pulling) wait(context.Context) (step, error) {
	p.emit(acme.Event{Stage: Waiting})
	return p.pause, nil
}

// pause ends the daemon's turn, or delays the next request.
func (p *pulling) pause(ctx context.Context) (step, error) {
	if p.isLast() {
		return nil, nil
	}
	return p.ask, sleep(ctx, p.timing.BetweenPolls)
}

// isGone reports whether the proxy answered that it does not have the requested object.
func isGone(err error) bool {
	return isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusForbidden)
}
