// Package offload implements challenge-only mode: the proxy answers HTTP-01 challenges
// of clients that have a CA account and keys of their own. It sees no order, no key and
// no certificate of them.
//
//	o := offload.New(offload.Config{Audit: log, Answers: responder, Share: peers.ShareClient, …})
//	a, err := o.Present(ctx, caller, challenge.ClientAnswer{Name: name, Token: token, KeyAuthorization: text})
//
// Answers are in memory only. One ends when the client withdraws it, after [Life], and as
// soon as the client may not have it any more, but never because it was fetched: CAs
// fetch from several networks. The mode must never replace an answer of the proxy itself
// or of another client.
package offload

import (
	"cmp"
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/fair"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Life is the time after which an answer ends if the client does not withdraw it. A
// repeated Present begins another one.
const Life = time.Hour

// The actions of audit entries.
const (
	ActionPresent  = "challenge present"
	ActionWithdraw = "challenge withdraw"
)

// Limits are the numbers of answers that clients have at this instance. One certificate
// may have 100 names.
var Limits = fair.Limits{Total: 2048, PerClient: 256, Reserve: 2048, Own: 8}

const (
	// maxForeign is the maximum number of answers that other instances have published.
	maxForeign = 8192
	// maxSkew is how much longer than Life another instance's answer may last.
	maxSkew = time.Minute
)

// Store reads clients. Its methods may be used concurrently. Errors are those of package
// managed.
type Store interface {
	ClientByID(ctx context.Context, id string) (clients.Client, error)
	Credentials(ctx context.Context, clientID string) ([]clients.Credential, error)
}

// Config holds the dependencies of an Offload.
type Config struct {
	Audit *audit.Log
	Store Store
	// Answers serves the answers on port 80.
	Answers *responder.Responder
	// Share makes the other instances serve an answer, too. It returns when they do, or
	// after a short time. It calls ended if the client withdraws it at another instance.
	// If nil, there are no others.
	Share func(ctx context.Context, a challenge.ClientAnswer, ended func()) (withdraw func())
	// Elsewhere returns why the proxy does not answer on port 80 itself, or an empty
	// string. If nil, it does.
	Elsewhere func() string
	// OwnNames returns the names of the proxy itself, for which no client may answer. If
	// nil, it has none.
	OwnNames func() []string
	Logger   *slog.Logger     // if nil, nothing is logged
	Now      func() time.Time // if nil, time.Now
}

// Offload holds the answers of clients. It is safe for concurrent use.
type Offload struct {
	cfg    Config
	places *fair.Places
	wake   chan struct{} // a client may have changed; buffered

	mu      sync.Mutex // guards the fields below
	answers map[pair][]*entry
	foreign int // number of entries of other instances
	closed  bool
}

// pair identifies what a CA fetches. All entries of a pair belong to one client.
type pair struct{ name, token string }

// entry is an answer that this instance serves.
type entry struct {
	challenge.ClientAnswer
	own     bool // a client gave it to this instance
	served  *responder.Answer
	expiry  *time.Timer
	release func() // returns the place of an own answer; guarded by Offload.mu
	// end ends the answer at all other instances. It is nil until that is possible.
	end     func()
	removed bool
}

// New creates an Offload without answers.
func New(cfg Config) *Offload {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return &Offload{cfg: cfg, places: fair.New(Limits), wake: make(chan struct{}, 1), answers: map[pair][]*entry{}}
}

// Close removes all answers of this instance from memory. The others continue to serve
// them.
func (o *Offload) Close() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for _, all := range o.answers {
		for _, e := range all {
			o.remove(e)
		}
	}
	return nil
}

// add serves an answer, unless another client has the pair. The caller must hold o.mu.
func (o *Offload) add(e *entry) bool {
	p := pair{e.Name, e.Token}
	if all := o.answers[p]; o.closed || len(all) > 0 && all[0].ClientID != e.ClientID {
		return false
	}
	e.served = o.cfg.Answers.PutLower(e.Name, e.Token, e.KeyAuthorization)
	o.answers[p] = append(o.answers[p], e)
	if !e.own {
		o.foreign++
	}
	e.expiry = time.AfterFunc(e.Until.Sub(o.cfg.Now()), func() { o.expire(e) })
	return true
}

// remove stops serving an answer at this instance. The caller must hold o.mu, and call
// e.end after it has released it.
func (o *Offload) remove(e *entry) {
	if e.removed {
		return
	}
	e.removed = true
	e.expiry.Stop()
	e.served.Remove()
	p := pair{e.Name, e.Token}
	left := make([]*entry, 0, len(o.answers[p]))
	for _, other := range o.answers[p] {
		if other != e {
			left = append(left, other)
		}
	}
	if o.answers[p] = left; len(left) == 0 {
		delete(o.answers, p)
	}
	if !e.own {
		o.foreign--
		return
	}
	e.release()
}

// expire ends an answer whose time is over. The instance that has it from the client
// notifies the others.
func (o *Offload) expire(e *entry) {
	if e.own {
		o.finish(e)
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.remove(e)
}

// finish ends answers at all instances.
func (o *Offload) finish(all ...*entry) {
	var ends []func()
	o.mu.Lock()
	for _, e := range all {
		o.remove(e)
		if e.end != nil {
			ends = append(ends, e.end)
		}
	}
	o.mu.Unlock()
	for _, end := range ends {
		end()
	}
}
