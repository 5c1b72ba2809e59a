package acmeserver

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// finalize asks for the certificate of an order (RFC 8555, section 7.4). It waits some
// seconds for the outcome. The issuance continues after that.
func (s *Server) finalize(ctx context.Context, r *request) (*answer, error) {
	var in struct {
		CSR string `json:"csr"`
	}
	if err := decode(r.payload, &in); err != nil {
		return nil, err
	}
	der, err := decodeDER("csr", in.CSR, cert.MaxCSR)
	if err != nil {
		return nil, err
	}
	for range maxTries {
		o, err := s.ownOrder(ctx, r)
		if err != nil {
			return nil, err
		}
		if o.hasCSR(der) {
			return s.answerFinalized(&o)
		}
		if err := o.checkReady(s.cfg.Now()); err != nil {
			return nil, err
		}
		csr, err := checkCSR(der, o.Identifiers, r.key)
		if err != nil {
			return nil, err
		}
		if err := s.cfg.Policy.Finalize(ctx, o.request(r), csr); err != nil {
			return nil, err
		}
		if o.KeyHash, err = keyHash(csr.Public); err != nil {
			return nil, err
		}
		o.CSR, o.CSRHash, o.Addr = der, hashOf(der), r.addr
		a, err := s.start(ctx, o, known{account: &r.account, csr: csr})
		if !errors.Is(err, ErrStale) {
			return a, err
		}
	}
	return nil, busyProblem()
}

// hasCSR reports whether the order was finalized with a CSR.
func (o *Order) hasCSR(der []byte) bool {
	if o.CSRHash == "" { // finalized by an earlier version
		return o.CSR != nil && bytes.Equal(o.CSR, der)
	}
	return o.CSRHash == hashOf(der)
}

func hashOf(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// request returns the request that created an order, as far as it is known.
func (o *Order) request(r *request) OrderRequest {
	req := OrderRequest{
		Account: r.account, Addr: r.addr,
		Profile: o.Profile, NotBefore: o.NotBefore, NotAfter: o.NotAfter, Replaces: o.Replaces,
	}
	for n := range o.Authorizations {
		req.Identifiers = append(req.Identifiers, o.Authorizations[n].full())
	}
	return req
}

// checkReady returns why an order cannot be finalized.
func (o *Order) checkReady(now time.Time) error {
	refuse := func(detail string) error { return problem(acme.OrderNotReady, 0, detail) }
	if o.expired(now) {
		return refuse(expiredProblem().Detail)
	}
	switch o.Status {
	case StatusReady:
		return nil
	case StatusPending:
		var open []string
		for n := range o.Authorizations {
			if authz := &o.Authorizations[n]; authz.Status != StatusValid {
				open = append(open, authz.full().Value)
			}
		}
		return refuse("the order is pending: complete the authorizations of " + few(open))
	case StatusInvalid:
		return refuse("the order is invalid; create a new one")
	}
	return refuse("the order was finalized with another CSR; create a new one")
}

// start stores that a ready order is processing, starts the issuance, and waits for the
// outcome. If there is no place for an issuance, the loop starts it later. It returns
// ErrStale if the order changed.
func (s *Server) start(ctx context.Context, o Order, k known) (*answer, error) {
	outcomes, stop := s.turns.watch(o.ID)
	defer stop()
	wait := time.NewTimer(s.cfg.Limits.FinalizeWait)
	defer wait.Stop()
	end, ok := s.turns.begin(ctx, o.Owner, s.cfg.Limits.FinalizeWait/2)
	if err := ctx.Err(); err != nil && !ok {
		return nil, err
	}
	now := s.cfg.Now()
	o.Status, o.DueAt, o.Failures, o.Issuing = StatusProcessing, now, 0, false
	if ok {
		o.LeaseOwner, o.LeaseUntil, o.Issuing = s.cfg.Owner, now.Add(lease), true
	}
	err := s.cfg.Storage.UpdateOrder(ctx, o)
	if errors.Is(err, ErrTurn) { // it must be stored before it can wait
		o.Issuing = false
		err = s.cfg.Storage.UpdateOrder(ctx, o)
	}
	if err != nil {
		if ok {
			end()
		}
		if errors.Is(err, ErrStale) {
			return nil, err
		}
		return nil, fmt.Errorf("finalize an order: %w", err)
	}
	o.Version++
	if ok {
		go func() {
			defer end()
			s.process(s.turns.ctx, o, k)
		}()
	} else {
		s.loop.Wake()
	}
	return s.await(ctx, o, outcomes, wait.C)
}

// await waits until the order has ended, at most until the time limit. It does not wait
// for an attempt after that.
func (s *Server) await(
	ctx context.Context, o Order, outcomes <-chan Order, limit <-chan time.Time,
) (*answer, error) {
	latest := s.cfg.Now().Add(s.cfg.Limits.FinalizeWait)
	for {
		select {
		case o = <-outcomes:
			if o.Status != StatusProcessing || o.DueAt.After(latest) {
				return s.answerFinalized(&o)
			}
		case <-limit:
			return s.answerFinalized(&o)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// answerFinalized returns the order, or the problem of an invalid one: many clients do
// not show why an order became invalid after finalize.
func (s *Server) answerFinalized(o *Order) (*answer, error) {
	switch {
	case o.Status != StatusInvalid:
		return s.describeOrder(o), nil
	case o.Error != nil:
		return nil, final(o.Error)
	}
	return nil, o.checkReady(s.cfg.Now())
}

// final returns the problem of an order that has ended. After a status like 429 or 500,
// and after badNonce, clients send the same request for ever.
func final(p *acme.Problem) *acme.Problem {
	c := *harmless(p)
	if c.Type == acme.BadNonce {
		c.Type = acme.ServerInternal
	}
	if c.Status == http.StatusTooManyRequests || c.Status >= http.StatusInternalServerError {
		c.Status = http.StatusForbidden
	}
	return &c
}
