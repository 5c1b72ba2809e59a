package rest

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"filippo.io/age"
	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

const (
	heartbeat    = 15 * time.Second // maximum interval of lines, so that no proxy in between closes the connection
	writeTimeout = 30 * time.Second // for one line
)

func (f *frontend) requestGateway(ctx context.Context, req cert.Request) (*huma.StreamResponse, error) {
	end, err := f.streams.begin(caller(ctx).Client.ID)
	if err != nil {
		return nil, err
	}
	issue, err := f.Begin(ctx, caller(ctx), req)
	if err != nil {
		end()
		return nil, f.problem(ctx, err)
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) {
		defer end()
		r, w := humago.Unwrap(hc)
		f.stream(r, w, issue)
	}}, nil
}

// stream runs an issuance and writes its events. It stops if the client disconnects.
func (f *frontend) stream(r *http.Request, w http.ResponseWriter, issue Issuance) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	extendDeadlines(w, 0)
	w.Header().Set("Content-Type", api.TypeEvents)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx in between must not collect the lines
	w.WriteHeader(http.StatusOK)
	s := &eventStream{encoder: json.NewEncoder(w), control: http.NewResponseController(w), failed: cancel}
	defer s.startHeartbeats(ctx)()
	bundle, recipients, err := issue(ctx, func(e acme.Event) {
		s.send(api.Event{Event: api.EventStage, Stage: string(e.Stage), Identifier: e.Identifier})
	}, func(context.Context) (clients.Identity, error) { return f.authenticateAgain(r) })
	var last api.Event
	if err == nil {
		last, err = certificateEvent(bundle, recipients)
	}
	if err != nil {
		last = api.Event{Event: api.EventProblem, Problem: f.streamProblem(r, err)}
	}
	s.send(last)
}

// certificateEvent returns the last event of a stream. It contains the chain if the
// client has the key, and otherwise the sealed key and chain.
func certificateEvent(b *cert.Bundle, recipients []age.Recipient) (api.Event, error) {
	if b.Key == nil {
		return api.Event{Event: api.EventCertificate, Chain: string(b.FullchainPEM())}, nil
	}
	plain, err := b.PEM()
	if err != nil {
		return api.Event{}, err
	}
	sealed, err := seal.Seal(plain, recipients...)
	return api.Event{Event: api.EventCertificate, Bundle: sealed}, err
}

// streamProblem returns the problem of a stream that ends without a certificate, after
// status 200.
func (f *frontend) streamProblem(r *http.Request, err error) *api.Problem {
	var refused *auth.Error
	var denied *policy.Denied
	status := http.StatusForbidden
	switch {
	case errors.As(err, &refused):
		f.Audit.RefuseCaller(r.Context(), refused)
		status = http.StatusUnauthorized
	case errors.As(err, &denied):
	default:
		return f.issuerProblem(err)
	}
	return &api.Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Detail: err.Error()}
}

// eventStream writes one event per line.
type eventStream struct {
	mu      sync.Mutex // guards encoder and control
	encoder *json.Encoder
	control *http.ResponseController
	failed  func()
}

func (s *eventStream) send(e api.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.control.SetWriteDeadline(time.Now().Add(writeTimeout))
	err := s.encoder.Encode(e)
	if err == nil {
		err = s.control.Flush()
	}
	if err != nil {
		s.failed()
	}
}

// startHeartbeats starts heartbeats. stop stops them and waits for the last one, because
// the ResponseWriter must not be used after its handler has returned.
func (s *eventStream) startHeartbeats(ctx context.Context) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(heartbeat)
		defer t.Stop()
		for {
			select {
			case <-t.C:
				s.send(api.Event{Event: api.EventWaiting})
			case <-ctx.Done():
				return
			}
		}
	}()
	return func() { cancel(); <-done }
}

// extendDeadlines removes the server's read deadline, which would cancel the request,
// and extends the write deadline.
func extendDeadlines(w http.ResponseWriter, wait time.Duration) {
	c := http.NewResponseController(w)
	c.SetReadDeadline(time.Time{})
	c.SetWriteDeadline(time.Now().Add(wait + writeTimeout))
}
