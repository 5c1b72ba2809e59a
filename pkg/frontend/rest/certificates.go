package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

var (
	eventType       = reflect.TypeFor[api.Event]()
	certificateType = reflect.TypeFor[api.Certificate]()
	healthType      = reflect.TypeFor[api.Health]()
	checkReportType = reflect.TypeFor[api.CheckReport]()
)

type certificateInput struct{ Body api.CertificateRequest }

// request handles requests for certificates in both modes.
func (f *frontend) request(ctx context.Context, in *certificateInput) (*huma.StreamResponse, error) {
	req, err := cert.ParseRequest(in.Body.Names, in.Body.CSR, in.Body.KeyType)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	req.Profile = in.Body.Profile
	if !in.Body.Mode.IsUnattended() {
		return f.requestGateway(ctx, req)
	}
	m, _, err := f.Agent.Register(ctx, caller(ctx), req)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		_, w := humago.Unwrap(hc)
		w.Header().Set("Location", api.PathCertificates+"/"+m.ID)
		writeJSON(w, http.StatusAccepted, "application/json", f.certificate(m))
	}}, nil
}

type listInput struct {
	After string `query:"after" maxLength:"64" doc:"the id after which to continue"`
	Limit int    `query:"limit" minimum:"1" maximum:"500" default:"100"`
}

type listOutput struct{ Body api.CertificateList }

func (f *frontend) list(ctx context.Context, in *listInput) (*listOutput, error) {
	rows, err := f.Agent.List(ctx, caller(ctx), in.After, in.Limit)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	out := &listOutput{Body: api.CertificateList{Certificates: []api.Certificate{}}}
	for _, m := range rows {
		out.Body.Certificates = append(out.Body.Certificates, f.certificate(m))
	}
	if len(rows) == in.Limit {
		out.Body.Next = rows[len(rows)-1].ID
	}
	return out, nil
}

type idInput struct {
	ID string `path:"id" maxLength:"64"`
}

type certificateOutput struct{ Body api.Certificate }

func (f *frontend) get(ctx context.Context, in *idInput) (*certificateOutput, error) {
	m, err := f.Agent.Get(ctx, caller(ctx), in.ID)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &certificateOutput{f.certificate(m)}, nil
}

func (f *frontend) renew(ctx context.Context, in *idInput) (*certificateOutput, error) {
	m, err := f.Agent.RenewNow(ctx, caller(ctx), in.ID)
	if err != nil {
		return nil, f.problem(ctx, err)
	}
	return &certificateOutput{f.certificate(m)}, nil
}

type bundleInput struct {
	ID          string `path:"id" maxLength:"64"`
	IfNoneMatch string `header:"If-None-Match" maxLength:"256"`
	Wait        string `query:"wait" maxLength:"16" doc:"delay the answer until a newer bundle exists or an attempt has failed, for at most this time: 1s to 60s"`
}

func (f *frontend) bundle(ctx context.Context, in *bundleInput) (*huma.StreamResponse, error) {
	wait, err := parseWait(in.Wait)
	if err != nil {
		return nil, fieldProblem(http.StatusUnprocessableEntity, "query.wait", err.Error())
	}
	end := func() {}
	if wait > 0 {
		if end, err = f.polls.begin(caller(ctx).Client.ID); err != nil {
			return nil, err
		}
	}
	etag := strings.Trim(strings.TrimPrefix(in.IfNoneMatch, "W/"), `"`)
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer end()
		r, w := humago.Unwrap(hc)
		extendDeadlines(w, wait)
		ctx, cancel := context.WithCancel(r.Context())
		defer cancel()
		defer context.AfterFunc(f.Stopping, cancel)()
		b, err := f.Agent.Bundle(ctx, caller(r.Context()), in.ID, etag, wait)
		cutOff := err != nil && !errors.Is(err, managed.ErrNotFound) && ctx.Err() != nil && r.Context().Err() == nil
		if cutOff { // the end of the wait interrupted a read
			ctx = r.Context()
			b, err = f.Agent.Bundle(ctx, caller(ctx), in.ID, etag, 0)
		}
		if wait > 0 {
			if _, err := f.authenticateAgain(r); err != nil {
				f.unauthorized(w, r, err)
				return
			}
		}
		if err != nil {
			f.writeProblem(w, f.problem(ctx, err))
			return
		}
		w.Header().Set("ETag", `"`+b.ETag+`"`)
		w.Header().Set("Cache-Control", "private, no-cache")
		if b.ETag == etag {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		w.Header().Set("Content-Type", api.TypeBundle)
		w.Write(b.Ciphertext)
	}}, nil
}

func parseWait(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > api.MaxWait {
		return 0, fmt.Errorf("not a duration between 0s and %v; write it like 30s", api.MaxWait)
	}
	return d, nil
}

// certificate converts a managed row to its form for the owner.
func (f *frontend) certificate(m managed.Certificate) api.Certificate {
	c := api.Certificate{
		ID: m.ID, Mode: m.Mode, Names: m.Names, Status: f.status(m), Serial: m.Serial,
		NotBefore: timeOrNil(m.NotBefore), NotAfter: timeOrNil(m.NotAfter), NextAttempt: timeOrNil(m.DueAt),
		Attempting: m.IsAttempted(f.Now()), Failures: m.Failures, LastError: lastError(m), LastErrorAt: timeOrNil(m.LastErrorAt),
	}
	if !m.DueAt.IsZero() {
		left := seconds(m.DueAt.Sub(f.Now()))
		c.RetryAfter = &left
	}
	return c
}

// lastError returns the last error without details that are for the administrator.
func lastError(m managed.Certificate) string {
	if m.LastError != "" && m.LastPlain == "" {
		return acme.Hidden
	}
	return m.LastPlain
}

func (f *frontend) status(m managed.Certificate) string {
	switch {
	case !m.SupersededAt.IsZero():
		return api.StatusSuperseded
	case !m.RevokedAt.IsZero():
		return api.StatusRevoked
	case m.Serial != "" && m.NotAfter.Before(f.Now()):
		return api.StatusExpired
	case m.Failures > 0:
		return api.StatusFailing
	case m.Serial == "":
		return api.StatusPending
	}
	return api.StatusValid
}

// timeOrNil returns t in UTC, or nil if it is zero.
func timeOrNil(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
