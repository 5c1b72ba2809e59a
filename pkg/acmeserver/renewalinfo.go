package acmeserver

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// The time after which a client asks again for renewal information.
const (
	askAgain      = 6 * time.Hour
	askAgainLeast = time.Minute
	askAgainMost  = 24 * time.Hour
)

// isARIID reports whether s has the form of a certificate's identifier (RFC 9773,
// section 4.1): a key identifier and a serial number in base64url.
func isARIID(s string) bool {
	const longest = 64 // bytes of a part; serial numbers have at most 20
	key, serial, ok := strings.Cut(s, ".")
	for _, part := range []string{key, serial} {
		ok = ok && part != "" && base64.RawURLEncoding.DecodedLen(len(part)) <= longest
		if ok {
			_, err := base64.RawURLEncoding.Strict().DecodeString(part)
			ok = err == nil && !strings.ContainsAny(part, "\r\n")
		}
	}
	return ok
}

// serveRenewalInfo answers when to renew a certificate (RFC 9773, section 4.1). Anybody
// may ask.
func (s *Server) serveRenewalInfo(w http.ResponseWriter, req *http.Request) {
	c, err := s.certificateByARI(req.Context(), req.PathValue("id"))
	if err != nil {
		s.fail(w, req, err)
		return
	}
	info := s.renewalInfo(req.Context(), &c)
	var body struct {
		Window struct {
			Start time.Time `json:"start"`
			End   time.Time `json:"end"`
		} `json:"suggestedWindow"`
		Explanation string `json:"explanationURL,omitempty"`
	}
	body.Window.Start, body.Window.End, body.Explanation = second(info.Start), second(info.End), info.Explanation
	s.write(w, &answer{body: body, header: http.Header{"Retry-After": {seconds(info.RetryAfter)}}})
}

func (s *Server) certificateByARI(ctx context.Context, id string) (Certificate, error) {
	if !isARIID(id) {
		return Certificate{}, notFound("certificate")
	}
	c, err := s.cfg.Storage.CertificateByARI(ctx, id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Certificate{}, notFound("certificate")
	case err != nil:
		return Certificate{}, fmt.Errorf("find a certificate: %w", err)
	}
	return c, nil
}

// renewalInfo returns the issuer's suggestion, or a window after two thirds of the
// lifetime. For a revoked certificate, it is in the past.
func (s *Server) renewalInfo(ctx context.Context, c *Certificate) RenewalInfo {
	start := cert.RenewAt(c.NotBefore, c.NotAfter)
	if !c.RevokedAt.IsZero() {
		start = c.RevokedAt.Add(-2 * time.Hour)
		return RenewalInfo{Start: start, End: start.Add(time.Hour), RetryAfter: askAgain}
	}
	info := RenewalInfo{Start: start, End: start.Add(c.NotAfter.Sub(c.NotBefore) / 50)}
	if informer, ok := (*s.issuer.Load()).(RenewalInformer); ok {
		switch other, err := informer.RenewalInfo(ctx, *c); {
		case err != nil:
			s.cfg.Logger.Warn("the issuer has no renewal information", "certificate", c.ID, "error", err)
		case !other.End.After(other.Start):
			s.cfg.Logger.Warn("the issuer's renewal window ends before it begins", "certificate", c.ID)
		default:
			info = other
		}
	}
	if info.RetryAfter <= 0 {
		info.RetryAfter = askAgain
	}
	info.RetryAfter = min(max(info.RetryAfter, askAgainLeast), askAgainMost)
	return info
}
