package relay

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
)

// The times after which the CA is asked again about a renewal.
const (
	askAgain      = 6 * time.Hour // if the CA did not say
	askAgainLeast = 5 * time.Minute
	askAgainMost  = 24 * time.Hour
	afterFailure  = 5 * time.Minute
)

// mostWindows bounds the windows in memory, and questions those to the CA at a time:
// anybody may ask when a certificate is to be renewed. questionTimeout bounds the time of
// one, and placeholder is the pause of those who do not wait for it.
const (
	mostWindows     = 20_000
	questions       = 8
	questionTimeout = 5 * time.Second
	placeholder     = time.Minute
)

// windows holds the CA's answers. The zero value is ready to use.
type windows struct {
	mu     sync.Mutex
	by     map[string]window // by certificate; guarded by mu
	asking int               // questions in progress; guarded by mu
}

type window struct {
	info  issuer.RenewalInfo // zero: the CA has no answer
	until time.Time          // when to ask again
}

// RenewalInfo implements acmeserver.RenewalInformer with the window of the CA, which is
// kept in memory until the CA wants to be asked again. If the CA has no answer, it is the
// window after two thirds of the lifetime.
func (r *Relay) RenewalInfo(ctx context.Context, c acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
	now := r.cfg.Now()
	known, ask := r.windows.begin(c.ARIID, now)
	if ask {
		defer r.windows.end()
		known = r.askCA(ctx, c, known.info, now)
		r.windows.put(c.ARIID, known)
	}
	if known.info.End.IsZero() {
		known.info.Start = cert.RenewAt(c.NotBefore, c.NotAfter)
		known.info.End = known.info.Start.Add(c.NotAfter.Sub(c.NotBefore) / 50)
	}
	return acmeserver.RenewalInfo{
		Start: known.info.Start, End: known.info.End, Explanation: known.info.Explanation,
		RetryAfter: max(known.until.Sub(now), time.Minute),
	}, nil
}

// askCA asks even if the caller is gone. Otherwise each caller that leaves early would
// cause another question. The CA's last answer holds while there is no other one.
func (r *Relay) askCA(ctx context.Context, c acmeserver.Certificate, last issuer.RenewalInfo, now time.Time) window {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), questionTimeout)
	defer cancel()
	ca, release := r.cfg.CA()
	defer release()
	name := parseState(c.State).CA
	if !ca.HasCA(name) {
		return window{until: now.Add(askAgain)}
	}
	info, err := ca.RenewalInfo(ctx, name, c.ARIID)
	if errors.Is(err, issuer.ErrNoARI) {
		return window{until: now.Add(askAgain)}
	}
	if err != nil {
		r.cfg.Logger.Warn("the CA did not say when to renew a certificate", "error", err)
		return window{info: last, until: now.Add(afterFailure)}
	}
	again := info.RetryAfter
	if again <= 0 {
		again = askAgain
	}
	return window{info: info, until: now.Add(min(max(again, askAgainLeast), askAgainMost))}
}

// begin returns what is known about a certificate, and whether the caller must ask the CA
// and call end. Until then, the others get what was known before.
func (w *windows) begin(id string, now time.Time) (known window, ask bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	known, ok := w.by[id]
	if ok && now.Before(known.until) {
		return known, false
	}
	known.until = now.Add(placeholder)
	if w.asking >= questions {
		return known, false
	}
	w.asking++
	w.set(id, known)
	return known, true
}

func (w *windows) put(id string, known window) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.set(id, known)
}

// set stores a window. The caller holds mu.
func (w *windows) set(id string, known window) {
	if w.by == nil {
		w.by = map[string]window{}
	}
	for other := range w.by {
		if len(w.by) < mostWindows {
			break
		}
		delete(w.by, other)
	}
	w.by[id] = known
}

func (w *windows) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asking--
}

// metaCache holds the metadata of the CA. The zero value is ready to use.
type metaCache struct {
	mu    sync.Mutex // guards the fields below
	known issuer.Meta
	ever  bool // known was read
	until time.Time
}

// The times for which metadata is used, after a success and after a failure, and the time
// limit of a question.
const (
	metaLife    = time.Minute
	metaPause   = 15 * time.Second
	metaTimeout = 3 * time.Second
)

// Meta returns the metadata of the CA for acmeserver.Config. It has only the time of the
// next question while the CA cannot be reached for the first time.
func (r *Relay) Meta(ctx context.Context) acmeserver.Meta {
	r.meta.mu.Lock() // the others wait for the answer, too
	defer r.meta.mu.Unlock()
	if now := r.cfg.Now(); !now.Before(r.meta.until) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), metaTimeout)
		defer cancel()
		ca, release := r.cfg.CA()
		defer release()
		meta, err := ca.Meta(ctx)
		if err != nil {
			r.cfg.Logger.Warn("the CA's directory cannot be read", "error", err)
			r.meta.until = now.Add(metaPause)
		} else {
			r.meta.known, r.meta.until, r.meta.ever = meta, now.Add(metaLife), true
		}
	}
	if !r.meta.ever {
		return acmeserver.Meta{RetryAfter: max(r.meta.until.Sub(r.cfg.Now()), time.Second)}
	}
	return acmeserver.Meta{CAAIdentities: r.meta.known.CAAIdentities, Profiles: r.meta.known.Profiles}
}

// Reloaded makes the relay forget what it knows about the CA, which may be another one
// now. What it refused is tried at once.
func (r *Relay) Reloaded() {
	r.refused.forgetAll()
	r.meta.mu.Lock()
	defer r.meta.mu.Unlock()
	r.meta.until = time.Time{}
}
