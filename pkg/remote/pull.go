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

// pullOptions are the differences between the daemon and an administrator's command.
type pullOptions struct {
	renew        bool // another key and certificate must come, whatever the age of the present ones
	maxQuestions int  // for the bundle; 0: until one comes or the proxy fails
	// reportFirst asks the first time without a long poll, to report what the proxy
	// does. An attempt that failed before is no failure while the proxy tries again.
	reportFirst bool
	keepPause   bool // Kept.AskAgain is respected
	waitLong    bool // a distant time of the proxy's next attempt is no error
}

// daemonPull returns the options of one turn of the daemon.
func daemonPull() pullOptions { return pullOptions{maxQuestions: 2, keepPause: true, waitLong: true} }

// commandPull returns the options of a command for which an administrator waits.
func commandPull(renew bool) pullOptions { return pullOptions{reportFirst: true, renew: renew} }

// pulling is the state machine that brings one bundle of agent mode to the disk:
//
//	start → register → passPresent → ask → open → install
//	                                  ├ comeLater → registerAgain, askNow, wait ┐
//	                                  └──── pause ← askAnother ← open ──────────┘
type pulling struct {
	*Getter
	k    *Kept
	opts pullOptions

	newer     string // ETag of a bundle that is of no use; a newer one is asked for
	questions int    // for the bundle so far
	reported  bool   // the proxy reported once what it does
	asked     bool   // the proxy was asked for a new bundle
	failures  int    // attempts that had failed by then

	// What one state leaves to the next.
	ciphertext  []byte          // for open
	etag        string          // for open and install
	bundle      *cert.Bundle    // for install
	unopened    error           // for askAnother
	certificate api.Certificate // for askNow
}

// step is a state. It returns the next one, or nil at the end.
type step func(context.Context) (step, error)

// pull brings the newest bundle of agent mode to the disk. If there is none yet, or
// only one that is of no use (its key has the type that was wanted before, it is
// sealed to others, it is revoked, or opts.renew asks for another), it waits for the
// proxy to obtain one or to fail.
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
	if p.k.ETag != "" && !onDisk(p.k) {
		p.k.ETag = "" // the files were removed or changed
	}
	p.newer = p.k.ETag
	switch {
	case p.k.ID == "":
		return p.register, nil
	case p.opts.renew:
		return p.passPresent, nil
	}
	return p.ask, nil
}

// register makes the certificate managed for the first time, or with another
// profile, so that the present one is of no use.
func (p *pulling) register(ctx context.Context) (step, error) {
	if err := p.manage(ctx); err != nil {
		return nil, err
	}
	p.k.ETag = ""
	if p.opts.renew {
		return p.passPresent, nil
	}
	return p.ask, nil
}

// registerAgain makes the certificate managed that the proxy forgot.
func (p *pulling) registerAgain(ctx context.Context) (step, error) {
	return p.pause, p.manage(ctx)
}

// manage asks the proxy to manage the certificate. Asking again is no error and
// costs nothing.
func (p *pulling) manage(ctx context.Context) error {
	if err := p.k.storable(ctx); err != nil {
		return err
	}
	m, err := p.api.Register(ctx, p.k.Names, p.k.KeyType, p.k.Profile)
	if err != nil {
		return err
	}
	p.k.ID = m.ID
	p.emit(acme.Event{Stage: Registered})
	// The proxy may wait because this host was missing; it knows whether it is too
	// soon.
	waits := m.Failures > 0 && m.Serial == "" || m.Status == api.StatusRevoked
	if waits && !p.asked {
		if err := p.renew(ctx); err != nil && !isStatus(err, http.StatusTooManyRequests) {
			return err
		}
	}
	return p.k.save()
}

// passPresent asks for a new key and certificate, and gives up the present bundle.
func (p *pulling) passPresent(ctx context.Context) (step, error) {
	_, etag, _, err := p.api.Bundle(ctx, p.k.ID, "", 0)
	if isGone(err) {
		p.k.ETag = "" // none yet, or the proxy forgot it: the next one is new
		return p.ask, nil
	}
	if err != nil {
		return nil, err
	}
	if err := p.renew(ctx); err != nil {
		return nil, err
	}
	p.k.ETag, p.newer = "", etag
	return p.ask, nil
}

// ask asks for a bundle that is newer than the one that is here.
func (p *pulling) ask(ctx context.Context) (step, error) {
	p.questions++
	ciphertext, etag, news, err := p.api.Bundle(ctx, p.k.ID, p.newer, p.longPoll())
	switch {
	case isGone(err), err == nil && !news && p.k.ETag == "":
		return p.comeLater, nil
	case err != nil:
		return nil, err
	case !news:
		return nil, p.runHook(ctx, p.k)
	}
	p.ciphertext, p.etag = ciphertext, etag
	return p.open, nil
}

// longPoll returns for how long the proxy may hold back the question that comes.
func (p *pulling) longPoll() time.Duration {
	switch {
	case p.k.ETag != "": // the bundle that is here is in order
		return 0
	case p.opts.reportFirst && !p.reported:
		return 0
	case p.isLast() && p.newer == "": // only whether it came during the pause
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
	if err == nil && keyTypeIs(b, p.k.KeyType) && b.Serial() != p.k.Revoked {
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

// install writes the bundle to the disk.
func (p *pulling) install(ctx context.Context) (step, error) {
	return nil, p.Getter.install(ctx, p.k, p.bundle, p.etag)
}

// askAnother asks for a bundle instead of one that is sealed to others: this host
// was enrolled after that was sealed.
func (p *pulling) askAnother(ctx context.Context) (step, error) {
	p.k.ETag = ""
	if p.asked {
		return nil, p.unopened
	}
	if p.opts.keepPause && p.now().Before(p.k.AskAgain) {
		return nil, fmt.Errorf("%w; the proxy can be asked for another at %s", p.unopened, p.k.AskAgain.Format(time.RFC3339))
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

// checkRecipient returns an error if this host could not open another bundle either.
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
	p.asked, p.failures = true, m.Failures
	return nil
}

// comeLater finds out why there is no bundle: the proxy works on it, failed, will
// begin later, or does not manage the certificate.
func (p *pulling) comeLater(ctx context.Context) (step, error) {
	m, err := p.api.Certificate(ctx, p.k.ID)
	if isGone(err) {
		p.k.ETag = "" // the proxy forgot it, or is another one now
		return p.registerAgain, nil
	}
	if err != nil {
		return nil, err
	}
	left, scheduled := m.Until(p.now())
	retries := p.opts.reportFirst && !p.reported && scheduled && left == 0
	p.reported, p.certificate = true, m
	switch {
	case m.Failures > p.failures && !retries:
		return nil, attemptFailed(m)
	case m.Status == api.StatusSuperseded: // this host may have the names again
		return p.registerAgain, nil
	case left > p.timing.NotSoon:
		return p.askNow, nil
	}
	return p.wait, nil
}

func attemptFailed(m api.Certificate) error {
	next := ""
	if m.NextAttempt != nil {
		next = "; the proxy tries again at " + m.NextAttempt.UTC().Format(time.RFC3339)
	}
	return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("the proxy has no certificate yet: %s%s", printable(m.LastError), next)}
}

// askNow asks a proxy that would begin later to begin now. If that is too soon, its
// error says when the proxy begins.
func (p *pulling) askNow(ctx context.Context) (step, error) {
	m := p.certificate
	if m.Status != api.StatusPending {
		if p.opts.waitLong {
			return p.wait, nil
		}
		_, _, news, err := p.api.Bundle(ctx, p.k.ID, p.newer, 0)
		if err == nil && news { // since the last question
			return p.wait, nil
		}
		// The proxy knows by its own clock whether it is too soon.
		if err := p.renew(ctx); err == nil || !isStatus(err, http.StatusTooManyRequests) {
			return p.wait, err
		}
	}
	what := "no certificate"
	if m.Serial != "" {
		what = "no other certificate"
	}
	return nil, &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf(
		"the proxy has %s yet: these names were asked for several times in a short while; it asks the CA at %s",
		what, m.NextAttempt.UTC().Format(time.RFC3339))}
}

// wait reports that the proxy is at work.
func (p *pulling) wait(context.Context) (step, error) {
	p.emit(acme.Event{Stage: Waiting})
	return p.pause, nil
}

// pause ends the daemon's turn, or delays the next question.
func (p *pulling) pause(ctx context.Context) (step, error) {
	if p.isLast() {
		return nil, nil
	}
	return p.ask, sleep(ctx, p.timing.BetweenPolls)
}

// isGone reports whether the proxy does not have what it was asked for.
func isGone(err error) bool {
	return isStatus(err, http.StatusNotFound) || isStatus(err, http.StatusForbidden)
}
