package acmeserver

import (
	"net/http"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// orderResource is an order as clients see it (RFC 8555, section 7.1.3).
type orderResource struct {
	Status         Status            `json:"status"`
	Expires        time.Time         `json:"expires"`
	Identifiers    []acme.Identifier `json:"identifiers"`
	Profile        string            `json:"profile,omitempty"`
	NotBefore      time.Time         `json:"notBefore,omitzero"`
	NotAfter       time.Time         `json:"notAfter,omitzero"`
	Replaces       string            `json:"replaces,omitempty"` // RFC 9773, section 5
	Error          *acme.Problem     `json:"error,omitempty"`
	Authorizations []string          `json:"authorizations"`
	Finalize       string            `json:"finalize"`
	Certificate    string            `json:"certificate,omitempty"`
}

// authorizationResource is an authorization as clients see it (RFC 8555, section 7.1.4).
type authorizationResource struct {
	Identifier acme.Identifier     `json:"identifier"`
	Status     Status              `json:"status"`
	Expires    time.Time           `json:"expires"`
	Challenges []challengeResource `json:"challenges"`
	Wildcard   bool                `json:"wildcard,omitempty"`
}

// challengeResource is a challenge as clients see it (RFC 8555, section 8).
type challengeResource struct {
	Type      string        `json:"type"`
	URL       string        `json:"url"`
	Token     string        `json:"token"`
	Status    Status        `json:"status"`
	Validated time.Time     `json:"validated,omitzero"`
	Error     *acme.Problem `json:"error,omitempty"`
}

func (s *Server) orderURL(o *Order) string { return s.url("/order/" + o.ID) }

func (s *Server) authorizationURL(o *Order, n int) string {
	return s.url("/authorization/" + o.ID + "/" + strconv.Itoa(n))
}

func (s *Server) challengeURL(o *Order, n int, kind string) string {
	return s.url("/challenge/" + o.ID + "/" + strconv.Itoa(n) + "/" + kind)
}

// expired reports whether an order can no longer become valid.
func (o *Order) expired(now time.Time) bool {
	unfinished := o.Status == StatusPending || o.Status == StatusReady || o.Status == StatusProcessing
	return unfinished && o.isOver(now)
}

// isOver reports whether the time of an order and its authorizations is over. That is so,
// too, if it was created while the clock was ahead: it would expire too late.
func (o *Order) isOver(now time.Time) bool {
	return !now.Before(o.Expires) || o.CreatedAt.After(now.Add(clockMargin))
}

// expiredProblem is the error of an order that expired.
func expiredProblem() *acme.Problem {
	return problem(acme.Malformed, 0, "the order expired; create a new one")
}

// describeOrder returns the answer with an order. An expired one is shown as invalid.
func (s *Server) describeOrder(o *Order) *answer {
	now := s.cfg.Now()
	res := orderResource{
		Status: o.Status, Expires: second(o.Expires), Identifiers: o.Identifiers, Profile: o.Profile,
		NotBefore: second(o.NotBefore), NotAfter: second(o.NotAfter), Replaces: o.Replaces,
		Authorizations: make([]string, len(o.Authorizations)), Finalize: s.orderURL(o) + "/finalize",
	}
	cause := o.Error
	if o.expired(now) {
		res.Status, cause = StatusInvalid, expiredProblem()
	}
	if cause != nil {
		res.Error = harmless(cause)
	}
	for n := range o.Authorizations {
		res.Authorizations[n] = s.authorizationURL(o, n)
	}
	if o.Status == StatusValid {
		res.Certificate = s.url("/certificate/" + o.CertificateID)
	}
	a := &answer{location: s.orderURL(o), body: res}
	if res.Status == StatusProcessing {
		a.header = retryAfter(max(o.DueAt.Sub(now), now.Sub(o.CreatedAt)/10))
	}
	return a
}

// describeAuthorization returns the answer with an authorization.
func (s *Server) describeAuthorization(o *Order, n int) *answer {
	authz := &o.Authorizations[n]
	res := authorizationResource{
		Identifier: authz.Identifier, Status: authz.Status, Expires: second(o.Expires), Wildcard: authz.Wildcard,
	}
	if (authz.Status == StatusPending || authz.Status == StatusValid) && o.isOver(s.cfg.Now()) {
		res.Status = StatusExpired
	}
	a := &answer{}
	for i := range authz.Challenges {
		res.Challenges = append(res.Challenges, s.challengeResource(o, n, &authz.Challenges[i]))
		if res.Status == StatusPending && authz.Challenges[i].Status == StatusProcessing {
			a.header = retryAfter(authz.Challenges[i].DueAt.Sub(s.cfg.Now()))
		}
	}
	a.body = res
	return a
}

// describeChallenge returns the answer with a challenge.
func (s *Server) describeChallenge(o *Order, n int, c *Challenge) *answer {
	a := &answer{
		links: []string{link(s.authorizationURL(o, n), "up")},
		body:  s.challengeResource(o, n, c),
	}
	if c.Status == StatusProcessing {
		a.header = retryAfter(c.DueAt.Sub(s.cfg.Now()))
	}
	return a
}

func (s *Server) challengeResource(o *Order, n int, c *Challenge) challengeResource {
	res := challengeResource{
		Type: c.Type, URL: s.challengeURL(o, n, c.Type), Token: c.Token, Status: c.Status, Validated: second(c.Validated),
	}
	if c.Error != nil {
		res.Error = harmless(c.Error)
	}
	return res
}

// retryAfter returns the header with 1 to 5 seconds. Some clients give up if they should
// wait longer.
func retryAfter(wait time.Duration) http.Header {
	return http.Header{"Retry-After": {seconds(min(max(wait, time.Second), 5*time.Second))}}
}

// second returns a time as clients get it.
func second(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC().Truncate(time.Second)
}
