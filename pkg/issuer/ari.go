package issuer

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// ErrNoARI means that the CA suggests no times of renewal.
var ErrNoARI = errors.New("the CA suggests no times of renewal")

// RenewalInfo is when the CA suggests to renew a certificate (RFC 9773, section 4.2).
type RenewalInfo struct {
	Start, End  time.Time
	Explanation string        // URL; may be empty
	RetryAfter  time.Duration // when to ask again; 0 if the CA did not say
}

// renewalInfoTimeout is the timeout for one question about a renewal.
const renewalInfoTimeout = 10 * time.Second

// RenewalInfo asks when to renew a certificate, by its acme.CertID. It needs no account.
// The error is an *acme.Error or ErrNoARI.
func (ca *CA) RenewalInfo(ctx context.Context, certID string) (info RenewalInfo, err error) {
	const op = "ask when to renew"
	ctx, cancel := context.WithTimeout(ctx, renewalInfoTimeout)
	defer cancel()
	s := ca.wire.session(ctx)
	core, err := ca.newCore(s, account{})
	if err != nil {
		return info, err
	}
	url := core.GetDirectory().RenewalInfo
	if url == "" {
		return info, ErrNoARI
	}
	body, err := read(s, func() ([]byte, error) {
		resp, err := core.Certificates.GetRenewalInfo(certID)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		return io.ReadAll(resp.Body) // send has limited it
	})
	if err != nil {
		return info, classify(op, err, time.Time{})
	}
	var answer struct {
		Window struct {
			Start time.Time `json:"start"`
			End   time.Time `json:"end"`
		} `json:"suggestedWindow"`
		Explanation string `json:"explanationURL"`
	}
	if err := json.Unmarshal(body, &answer); err != nil || !answer.Window.End.After(answer.Window.Start) {
		return info, &acme.Error{Kind: acme.Temporary, Op: op, Detail: "the CA's answer has no window"}
	}
	info = RenewalInfo{Start: answer.Window.Start, End: answer.Window.End, Explanation: actionURL("", answer.Explanation, nil)}
	if at := s.retryAfter(url + "/" + certID); !at.IsZero() {
		info.RetryAfter = at.Sub(s.now())
	}
	return info, nil
}

// RenewalInfo asks the CA of a name when to renew a certificate, as CA.RenewalInfo does.
func (p *Pool) RenewalInfo(ctx context.Context, name, certID string) (RenewalInfo, error) {
	ca, err := p.CA(name)
	if err != nil {
		return RenewalInfo{}, err
	}
	return ca.RenewalInfo(ctx, certID)
}

// Meta holds the metadata in a CA's directory (RFC 8555, section 7.1.1, and
// draft-ietf-acme-profiles).
type Meta struct {
	CAAIdentities []string
	Profiles      map[string]string // descriptions by name
}

// Meta returns the metadata of the default CA. It registers no account, and costs no
// request once the directory is known.
func (p *Pool) Meta(ctx context.Context) (Meta, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	core, err := p.standard.newCore(p.standard.wire.session(ctx), account{})
	if err != nil {
		return Meta{}, err
	}
	meta := core.GetDirectory().Meta
	return Meta{CAAIdentities: meta.CaaIdentities, Profiles: meta.Profiles}, nil
}

// newOrder creates an order. If the CA refuses that it replaces a certificate, which
// never makes an order impossible, newOrder creates one that replaces none.
func (f *flow) newOrder() (legoacme.ExtendedOrder, error) {
	order, err := f.newOrderWith(f.req.Replaces)
	if f.req.Replaces == "" || !refusesReplaces(err) {
		return order, err
	}
	f.ca.cfg.Logger.Info("the CA does not accept that the order replaces a certificate; ordering without")
	return f.newOrderWith("")
}

// refusesReplaces reports whether an order may have been refused because of the
// certificate that it replaces. CAs answer in all these ways if they do not know it, or
// if it is replaced already.
func refusesReplaces(err error) bool {
	if isProblem(err, acme.AlreadyReplaced) {
		return true
	}
	if isProblem(err, acme.RejectedIdentifier) || isProblem(err, acme.RateLimit) || isProblem(err, acme.BadNonce) ||
		isProblem(err, acme.AccountDoesNotExist) || isProblem(err, acme.InvalidProfile) || isProblem(err, acme.UserActionRequired) {
		return false
	}
	return slices.Contains([]int{http.StatusBadRequest, http.StatusForbidden, http.StatusNotFound, http.StatusConflict}, statusOf(err))
}

func (f *flow) orderOptions(replaces string) *api.OrderOptions {
	return &api.OrderOptions{Profile: f.req.Profile, ReplacesCertID: replaces}
}
