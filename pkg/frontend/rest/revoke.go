package rest

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

type deleteInput struct {
	ID     string `path:"id" maxLength:"64"`
	Revoke bool   `query:"revoke" doc:"revoke its current certificate first"`
	Shared bool   `query:"shared" doc:"also if several hosts are enrolled for the client, which all have this certificate"`
	Reason string `query:"reason" maxLength:"32" doc:"of the revocation: unspecified (default), keyCompromise, superseded or cessationOfOperation, in any case"`
}

func (f *frontend) delete(ctx context.Context, in *deleteInput) (*struct{}, error) {
	reason, err := cert.ParseReason(in.Reason)
	if err == nil && in.Reason != "" && !in.Revoke {
		err = errors.New("applies to revocations only; set revoke=true")
	}
	if err != nil {
		return nil, fieldProblem(http.StatusUnprocessableEntity, "query.reason", "reason: "+err.Error())
	}
	action := "certificate"
	if in.Revoke {
		action = audit.ActionRevoke
	}
	if err := f.Audit.Authorize(ctx, audit.Ask{By: caller(ctx), Action: action}); err != nil {
		return nil, f.problem(ctx, err)
	}
	if !in.Revoke {
		return nil, f.problemOrNil(ctx, f.Agent.Delete(ctx, caller(ctx), in.ID, in.Shared))
	}
	end, err := f.streams.begin(caller(ctx).Client.ID)
	if err != nil {
		return nil, err
	}
	defer end()
	return nil, f.problemOrNil(ctx, f.Agent.RevokeAndDelete(ctx, caller(ctx), in.ID, reason, in.Shared))
}

func (f *frontend) problemOrNil(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	return f.problem(ctx, err)
}

type revokeInput struct{ Body api.RevokeRequest }

type revokeOutput struct{ Body api.Revocation }

// revoke revokes a certificate that the proxy manages for the caller, or another one
// whose key the caller has.
func (f *frontend) revoke(ctx context.Context, in *revokeInput) (*revokeOutput, error) {
	rev, err := cert.ParseRevocation(in.Body.Certificate, in.Body.Reason, in.Body.Proof)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	if err := f.Audit.Authorize(ctx, audit.Ask{By: caller(ctx), Action: audit.ActionRevoke}); err != nil {
		return nil, f.problem(ctx, err)
	}
	end, err := f.streams.begin(caller(ctx).Client.ID)
	if err != nil {
		return nil, err
	}
	defer end()
	out := &revokeOutput{api.Revocation{Serial: rev.Serial(), Reason: string(rev.Reason)}}
	m, err := f.Agent.Revoke(ctx, caller(ctx), rev, in.Body.Forget)
	switch {
	case errors.Is(err, managed.ErrNotFound):
		err = f.Revoke(ctx, caller(ctx), rev)
	case err == nil:
		out.Body.ID = m.ID
		if !in.Body.Forget && m.Serial == rev.Serial() { // otherwise it was replaced already
			out.Body.NextAttempt = timeOrNil(m.DueAt)
			out.Body.RetryAfter = seconds(m.DueAt.Sub(f.Now()))
		}
	}
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return out, nil
}

// seconds returns d in seconds, rounded up, or 0 if it is negative.
func seconds(d time.Duration) int { return int(max(d+time.Second-1, 0) / time.Second) }
