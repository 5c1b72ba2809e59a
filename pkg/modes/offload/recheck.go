package offload

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// recheckEvery is how long a change of a client may have no effect on its answers, if the
// message of another instance about it was lost.
const recheckEvery = 15 * time.Second

// Run rechecks the clients after Changed, and regularly, until ctx is done.
func (o *Offload) Run(ctx context.Context) {
	tick := time.NewTicker(recheckEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-o.wake:
		}
		if err := o.Recheck(ctx); err != nil && ctx.Err() == nil {
			o.cfg.Logger.Warn("cannot check whether clients may still have their answers to challenges", "error", err)
		}
	}
}

// Changed makes Run recheck the clients. It does not block.
func (o *Offload) Changed() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// Serve serves an answer that another instance has published, until remove is called or
// it expires. end ends it at all instances. Serve returns nil if it does not serve it.
func (o *Offload) Serve(a challenge.ClientAnswer, end func()) (remove func()) {
	longest := o.cfg.Now().Add(Life + maxSkew)
	if a.Until.After(longest) {
		a.Until = longest
	}
	e := &entry{ClientAnswer: a, end: end}
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.foreign >= maxForeign || !o.add(e) {
		return nil
	}
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.remove(e)
	}
}

// Recheck ends the answers of clients that may not have them any more: the client was
// removed or disabled, its grants changed, or the credential is gone.
func (o *Offload) Recheck(ctx context.Context) error {
	byClient := map[string][]*entry{}
	o.mu.Lock()
	for _, all := range o.answers {
		for _, e := range all {
			byClient[e.ClientID] = append(byClient[e.ClientID], e)
		}
	}
	o.mu.Unlock()
	var errs []error
	for id, all := range byClient {
		s, err := o.state(ctx, id)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, e := range all {
			if denied := s.decide(e.ClientAnswer); denied != nil && o.isServed(e) {
				o.finish(e)
				o.recordEnd(ctx, s.client, e, denied)
			}
		}
	}
	return errors.Join(errs...)
}

func (o *Offload) isServed(e *entry) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return !e.removed
}

// recordEnd records the end of an own answer. Each instance records those that clients
// gave it.
func (o *Offload) recordEnd(ctx context.Context, c clients.Client, e *entry, why error) {
	if e.own {
		c.ID = e.ClientID // also of a client that was removed
		o.record(ctx, c, trail.Address(e.Addr), e.Name, why.Error())
	}
}

// recheckOne returns why a client may not have an answer any more.
func (o *Offload) recheckOne(ctx context.Context, e *entry) error {
	s, err := o.state(ctx, e.ClientID)
	if err != nil {
		return err
	}
	return s.decide(e.ClientAnswer)
}

// state holds a client as the store has it.
type state struct {
	client      clients.Client
	credentials []clients.Credential
	now         time.Time
	removed     bool
}

func (o *Offload) state(ctx context.Context, clientID string) (s state, err error) {
	s.now = o.cfg.Now()
	s.client, err = o.cfg.Store.ClientByID(ctx, clientID)
	if errors.Is(err, managed.ErrNotFound) {
		s.removed = true
		return s, nil
	}
	if err != nil {
		return s, err
	}
	s.credentials, err = o.cfg.Store.Credentials(ctx, clientID)
	return s, err
}

// decide returns a *policy.Denied if the client may not have an answer.
func (s state) decide(a challenge.ClientAnswer) error {
	if s.removed {
		return &policy.Denied{Field: "client", Reason: "it was removed; ask the proxy's administrator"}
	}
	if !slices.ContainsFunc(s.credentials, func(c clients.Credential) bool {
		return c.ID == a.CredentialID && (c.ExpiresAt.IsZero() || c.ExpiresAt.After(s.now))
	}) {
		return &policy.Denied{Field: "client", Reason: "its credential was revoked or has expired; ask the proxy's administrator for a new one"}
	}
	_, err := policy.Decide(clients.Identity{Client: s.client, Addr: a.Addr}, policy.Request{
		Mode: clients.ModeChallenge, Names: cert.Names{a.Name}, Purpose: policy.Proof,
	})
	return err
}
