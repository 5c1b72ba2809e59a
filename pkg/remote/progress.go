package remote

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// failed identifies a failed attempt of the proxy.
type failed struct {
	count int
	at    int64 // Unix milliseconds; 0: unknown
}

func lastFailure(m api.Certificate) failed {
	f := failed{count: m.Failures}
	if m.LastErrorAt != nil {
		f.at = m.LastErrorAt.UnixMilli()
	}
	return f
}

// isFailing reports whether the proxy's last attempt failed.
func isFailing(m api.Certificate) bool { return m.Failures > 0 || m.LastError != "" }

// isUnderWay reports whether an attempt runs or begins as soon as the proxy has a
// worker.
func (p *pulling) isUnderWay(m api.Certificate) bool {
	left, scheduled := m.Until(p.now())
	return m.Attempting || scheduled && left == 0
}

// await makes pull wait for the attempt that follows the state m. An attempt that is
// under way may have begun before the cause of a failure was removed.
func (p *pulling) await(m api.Certificate) {
	p.awaits, p.joined, p.before = true, m.Attempting && !p.repeated, lastFailure(m)
}

// checkProgress asks why there is no bundle. The proxy works on it, failed, will begin
// later, or does not manage the certificate.
func (p *pulling) checkProgress(ctx context.Context) (step, error) {
	m, err := p.api.Certificate(ctx, p.k.ID)
	if isGone(err) {
		p.k.ETag = "" // the proxy removed it, or its database is new
		return p.registerAgain, nil
	}
	if err != nil {
		return nil, err
	}
	p.certificate = m
	if p.opts.tryNow && !p.reported && !p.awaits && p.isUnderWay(m) {
		p.await(m)
	}
	p.reported = true
	left, _ := m.Until(p.now())
	switch {
	case m.Status == api.StatusSuperseded: // this host may have the names again
		return p.registerAgain, nil
	case isFailing(m) && p.awaits && lastFailure(m) == p.before && p.isUnderWay(m):
		return p.wait, nil
	case isFailing(m) && p.opts.tryNow && (!p.awaits || p.joined && !p.isUnderWay(m)):
		p.repeated = p.awaits
		return p.askNow, nil
	case isFailing(m) && (!p.awaits || lastFailure(m) != p.before):
		return nil, attemptFailed(m, "")
	case left > p.timing.NotSoon && !m.Attempting:
		return p.askNow, nil
	}
	return p.wait, nil
}

// checkRenewal requests an attempt if the proxy cannot renew the certificate, although
// the present bundle is usable.
func (p *pulling) checkRenewal(ctx context.Context) (step, error) {
	m, err := p.api.Certificate(ctx, p.k.ID)
	if err != nil || !isFailing(m) || m.Status == api.StatusSuperseded {
		return nil, nil //nolint:nilerr // the certificate is in place, and the next turn asks again
	}
	p.ready, p.reported, p.certificate = true, true, m
	if p.isUnderWay(m) {
		p.await(m)
		return p.wait, nil
	}
	return p.askNow, nil
}

// attemptFailed returns the proxy's last failure as an error. refused is why no other
// attempt begins now, if one was requested.
func attemptFailed(m api.Certificate, refused string) error {
	what, next := "no certificate", ""
	if m.Serial != "" {
		what = "no newer certificate"
	}
	if refused != "" {
		next = "; " + refused
	}
	if m.NextAttempt != nil {
		next += "; the proxy tries again at " + printable.Time(*m.NextAttempt)
	}
	return &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf("the proxy has %s yet: %s%s", what, toPrintable(m.LastError), next)}
}

// askNow asks a proxy that would begin later to begin now. If the proxy refuses, the
// error says why, and when it begins.
func (p *pulling) askNow(ctx context.Context) (step, error) {
	m := p.certificate
	reason := "these names were requested several times within a short time"
	var problem *api.Problem
	if m.Status != api.StatusPending || isFailing(m) {
		if p.opts.waitLong && !isFailing(m) {
			return p.wait, nil
		}
		_, _, news, err := p.api.Bundle(ctx, p.k.ID, p.newer, 0)
		if err == nil && news { // a bundle came since the last request
			return p.wait, nil
		}
		if p.ready && !isFailing(m) {
			return nil, nil
		}
		// The proxy decides by its own clock whether this is too early.
		err = p.renew(ctx)
		if err == nil || !isStatus(err, http.StatusTooManyRequests) {
			return p.wait, err
		}
		if errors.As(err, &problem) && problem.Detail != "" {
			reason = problem.Detail
		}
		if isFailing(m) {
			return nil, attemptFailed(m, reason)
		}
	}
	if p.opts.waitLong && m.Status == api.StatusPending && !isFailing(m) && m.NextAttempt != nil && p.isGoodUntil(*m.NextAttempt) {
		return p.wait, nil
	}
	what := "no certificate"
	if m.Serial != "" {
		what = "no other certificate"
	}
	return nil, &acme.Error{Kind: acme.Temporary, Detail: fmt.Sprintf(
		"the proxy has %s yet: %s; it asks the CA at %s",
		what, reason, printable.Time(*m.NextAttempt))}
}

// isGoodUntil reports whether the certificate on the disk is what is wanted, and not due
// for renewal before t.
func (p *pulling) isGoodUntil(t time.Time) bool {
	have := p.usable(p.k)
	return have != nil && t.Before(have.RenewAt())
}

// withLastFailure adds the proxy's last failure to a refusal to begin now.
func (p *pulling) withLastFailure(ctx context.Context, refused error) error {
	if !isStatus(refused, http.StatusTooManyRequests) {
		return refused
	}
	m, err := p.api.Certificate(ctx, p.k.ID)
	if err != nil || !isFailing(m) {
		return refused
	}
	return attemptFailed(m, refused.Error())
}
