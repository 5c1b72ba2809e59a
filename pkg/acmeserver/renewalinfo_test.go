package acmeserver_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// advising is an issuer with renewal information.
type advising struct {
	*scriptedCA
	info acmeserver.RenewalInfo
	err  error
}

func (a *advising) RenewalInfo(_ context.Context, c acmeserver.Certificate) (acmeserver.RenewalInfo, error) {
	if len(c.Identifiers) == 0 {
		return acmeserver.RenewalInfo{}, errors.New("another certificate")
	}
	return a.info, a.err
}

func TestRenewalInfo(t *testing.T) { // RFC 9773, section 4
	inLab(t, nil, func(l *lab) {
		s := l.start()
		c := l.account(s)
		ask := func(id string) *labReply {
			l.Helper()
			rec := httptest.NewRecorder()
			s.ServeHTTP(rec, httptest.NewRequestWithContext(l.Context(), http.MethodGet, l.cfg.URL+"/renewal-info/"+id, http.NoBody))
			return &labReply{rec, l}
		}
		window := func(id, wait string) (start, end time.Duration, explanation string) {
			l.Helper()
			var doc struct {
				SuggestedWindow struct{ Start, End time.Time }
				ExplanationURL  string
			}
			r := ask(id).want(http.StatusOK)
			if r.into(&doc); r.Header().Get("Retry-After") != wait {
				l.Errorf("Retry-After %q, want %s", r.Header().Get("Retry-After"), wait)
			}
			return time.Until(doc.SuggestedWindow.Start), time.Until(doc.SuggestedWindow.End), doc.ExplanationURL
		}
		leaf := c.issue(rawacme.NewKey(), "a.example.com")
		id, err := acme.CertID(leaf)
		if err != nil {
			l.Fatal(err)
		}
		const day = 24 * time.Hour
		if start, end, _ := window(id, "21600"); start != 60*day || end <= start || end > 63*day {
			l.Errorf("window from %s to %s", start, end)
		}
		for _, bad := range []string{
			"x", ".", "AAAA.", ".AAAA", "AAAA.AAAA", "AA=A.AAAA", "A!.AAAA", strings.Repeat("A", 1000) + ".AAAA", id + ".AAAA", id + "%0A",
		} {
			ask(bad).refused(acme.Malformed, http.StatusNotFound)
		}

		advice := &advising{scriptedCA: l.ca}
		s.SetIssuer(advice)
		advice.info = acmeserver.RenewalInfo{
			Start: time.Now().Add(day), End: time.Now().Add(2 * day), Explanation: "https://ca.example.com/why", RetryAfter: time.Hour,
		}
		if start, end, why := window(id, "3600"); start != day || end != 2*day || why != "https://ca.example.com/why" {
			l.Errorf("window from %s to %s, %q", start, end, why)
		}
		advice.info.End, advice.info.RetryAfter = advice.info.Start, time.Second
		if start, _, _ := window(id, "21600"); start != 60*day {
			l.Errorf("an empty window of the issuer: starts in %s", start)
		}
		advice.err = errors.New("the upstream CA cannot be reached")
		if start, _, _ := window(id, "21600"); start != 60*day {
			l.Errorf("without the issuer: starts in %s", start)
		}
		c.revoke(leaf, 1).want(http.StatusOK)
		if start, end, _ := window(id, "21600"); start >= end || end >= 0 {
			l.Errorf("of a revoked certificate: from %s to %s", start, end)
		}
	})
}
