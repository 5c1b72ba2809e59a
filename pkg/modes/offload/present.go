package offload

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// busyFor is how long a client waits while all places are taken.
const busyFor = time.Minute

// Present serves a client's answer at all instances. It needs the name in any spelling,
// the token and the key authorization, and returns the complete answer. It may be
// repeated. Errors are *cert.FieldError, *policy.Denied, *audit.TooSoon,
// *challenge.ElsewhereError and challenge.ErrTaken.
func (o *Offload) Present(ctx context.Context, by clients.Identity, a challenge.ClientAnswer) (challenge.ClientAnswer, error) {
	wanted, err := o.check(by, a)
	if err != nil {
		return wanted, err
	}
	if err := o.authorize(ctx, by, wanted); err != nil {
		return wanted, err
	}
	e := &entry{ClientAnswer: wanted, own: true}
	former, err := o.begin(e)
	if err != nil {
		if errors.Is(err, challenge.ErrTaken) {
			o.refuse(ctx, by, ActionPresent, wanted.Name, err)
		}
		return wanted, err
	}
	o.share(ctx, e)
	o.finish(former...)
	// The client may have changed since it was authenticated. Then Recheck either found
	// this answer, or the change is visible now.
	if err := o.recheckOne(ctx, e); err != nil {
		o.finish(e)
		return wanted, err
	}
	return wanted, nil
}

// check returns the answer in its canonical form.
func (o *Offload) check(by clients.Identity, a challenge.ClientAnswer) (challenge.ClientAnswer, error) {
	wanted := challenge.ClientAnswer{
		ClientID: by.Client.ID, CredentialID: by.CredentialID, Addr: by.Addr,
		Token: a.Token, KeyAuthorization: a.KeyAuthorization, Until: o.cfg.Now().Add(Life),
	}
	var err error
	if wanted.Name, err = checkPair(a.Name, a.Token); err != nil {
		return wanted, err
	}
	if err := challenge.CheckKeyAuthorization(a.Token, a.KeyAuthorization); err != nil {
		return wanted, &cert.FieldError{Field: "key_authorization", Err: err}
	}
	return wanted, nil
}

// checkPair returns the canonical name.
func checkPair(name, token string) (string, error) {
	if err := challenge.CheckToken(token); err != nil {
		return "", &cert.FieldError{Field: "token", Err: err}
	}
	name, err := cert.ParseName(name)
	if err == nil {
		err = challenge.CheckName(name)
	}
	if err != nil {
		return "", &cert.FieldError{Field: "name", Err: err}
	}
	return name, nil
}

// authorize decides whether the client may answer for the name, and records it.
func (o *Offload) authorize(ctx context.Context, by clients.Identity, a challenge.ClientAnswer) error {
	if o.cfg.Elsewhere != nil {
		if reason := o.cfg.Elsewhere(); reason != "" {
			return &challenge.ElsewhereError{Reason: reason}
		}
	}
	ask := o.ask(by, ActionPresent, a.Name)
	if err := o.cfg.Audit.Authorize(ctx, ask); err != nil {
		return err
	}
	var err error
	switch {
	case o.isOwn(a.Name):
		err = &policy.Denied{Field: "names", Reason: a.Name + " is the name of the proxy itself, for which no client may answer; use another name"}
	case o.cfg.Answers.Has(a.Name, a.Token):
		err = challenge.ErrTaken
	}
	if err != nil {
		o.refuse(ctx, by, ActionPresent, a.Name, err)
		return err
	}
	ask.Costs = true
	return o.cfg.Audit.Authorize(ctx, ask)
}

func (o *Offload) ask(by clients.Identity, action, name string) audit.Ask {
	return audit.Ask{By: by, Action: action, Request: policy.Request{
		Mode: clients.ModeChallenge, Names: cert.Names{name}, Purpose: policy.Proof,
	}}
}

func (o *Offload) isOwn(name string) bool {
	return o.cfg.OwnNames != nil && slices.Contains(o.cfg.OwnNames(), name)
}

// refuse records a refusal that the grants do not explain.
func (o *Offload) refuse(ctx context.Context, by clients.Identity, action, name string, reason error) {
	entry := trail.By(by, action)
	entry.Mode, entry.Names, entry.Outcome, entry.Detail = clients.ModeChallenge, []string{name}, trail.Refused, reason.Error()
	o.cfg.Audit.Record(ctx, entry)
}

// begin serves an answer at this instance. It returns the former answers of the pair,
// which the caller must finish. The new answer takes over the place of an own one.
func (o *Offload) begin(e *entry) (former []*entry, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	former = slices.Clone(o.answers[pair{e.Name, e.Token}])
	if len(former) > 0 && former[0].ClientID != e.ClientID {
		return nil, challenge.ErrTaken
	}
	var from *entry
	for _, f := range former {
		if f.own {
			from = f
		}
	}
	if from != nil {
		e.release, from.release = from.release, func() {}
	} else {
		release, ok := o.places.Try(e.ClientID)
		if !ok {
			return nil, o.full(e.ClientID)
		}
		e.release = release
	}
	if !o.add(e) {
		e.release()
		return nil, context.Canceled // the process ends
	}
	return former, nil
}

func (o *Offload) full(clientID string) error {
	soon := &audit.TooSoon{Reason: "too many answers of clients are served", RetryAt: o.cfg.Now().Add(busyFor)}
	if n := o.places.Held(clientID); n >= Limits.PerClient {
		soon.Reason = fmt.Sprintf("this client has %d answers, which is its limit; withdraw those that are not needed", n)
	}
	return soon
}

// share makes the other instances serve an answer. It may have ended here meanwhile.
func (o *Offload) share(ctx context.Context, e *entry) {
	if o.cfg.Share == nil {
		return
	}
	withdraw := o.cfg.Share(ctx, e.ClientAnswer, func() { o.finish(e) })
	o.mu.Lock()
	e.end = withdraw
	removed := e.removed
	o.mu.Unlock()
	if removed {
		withdraw()
	}
}

// Withdraw ends a client's answer, at all instances. It may be repeated, and needs no
// grant while the answer exists. Errors are those of Present.
func (o *Offload) Withdraw(ctx context.Context, by clients.Identity, name, token string) error {
	name, err := checkPair(name, token)
	if err != nil {
		return err
	}
	o.mu.Lock()
	all := slices.Clone(o.answers[pair{name, token}])
	o.mu.Unlock()
	if len(all) == 0 || all[0].ClientID != by.Client.ID {
		if err := o.cfg.Audit.Authorize(ctx, o.ask(by, ActionWithdraw, name)); err != nil {
			return err
		}
		if len(all) > 0 || o.cfg.Answers.Has(name, token) {
			o.refuse(ctx, by, ActionWithdraw, name, challenge.ErrTaken)
			return challenge.ErrTaken
		}
		return nil
	}
	o.finish(all...)
	o.record(ctx, by.Client, trail.Address(by.Addr), name, "")
	return nil
}

// record records that an answer has ended before its time.
func (o *Offload) record(ctx context.Context, c clients.Client, addr, name, detail string) {
	o.cfg.Audit.Record(ctx, trail.Entry{
		ClientID: c.ID, ClientName: c.Name, Addr: addr, Action: ActionWithdraw, Mode: clients.ModeChallenge,
		Names: []string{name}, Outcome: trail.Done, Detail: detail,
	})
}
