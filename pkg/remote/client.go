package remote

import (
	"bufio"
	"bytes"
	"context"
	"crypto"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"reflect"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// ErrPin means that whoever answers at the proxy's address does not have the
// key that was pinned at enrolment.
var ErrPin = errors.New("the server has another key than the one pinned at enrolment: it is not the proxy, or somebody sits in between; if the proxy was set up anew, enrol again")

// Client speaks the native API. Refusals are *api.Problem, except those of
// Issue. It is safe for concurrent use.
type Client struct {
	url    string
	timing Timing
	// connect makes connections with a TLS key.
	connect func(tls.Certificate) *http.Client
	// otherKey, if not nil, is asked for another TLS key when the proxy does not
	// know the one with this pin; nil from it: there is none.
	otherKey func(ctx context.Context, pin [32]byte) (*tls.Certificate, error)
	// answered, if not nil, is called for each answer of the proxy.
	answered func()

	mu      sync.Mutex
	session session // guarded by mu; replaced when the key is
}

const (
	maxEvents = 10_000 // of a stream
	// maxEventValues is how many JSON values one event can hold.
	maxEventValues = 4096
	maxPages       = 1000     // of a list
	pageSize       = 100      // certificates
	maxList        = 64 << 20 // bytes of all pages of a list
	maxID          = 64       // bytes
)

// newClient returns a client of the proxy whose key has that pin, with this TLS key.
func (s *State) newClient(pin [32]byte, key tls.Certificate) *Client {
	c := &Client{url: s.enrolment.URL, timing: s.Timing.withDefaults()}
	c.connect = func(key tls.Certificate) *http.Client { return s.connect(pin, key, c.timing.Ping) }
	c.session = c.newSession(key)
	return c
}

// Enroll registers this client's TLS key with a one-time token.
func (c *Client) Enroll(ctx context.Context, token auth.EnrollToken, recipients []string) (who api.Client, err error) {
	secret := base64.RawURLEncoding.EncodeToString(token.Secret[:])
	return who, c.call(ctx, http.MethodPost, api.PathEnroll, api.EnrollRequest{Secret: secret, Recipients: recipients}, &who)
}

// Self tells who this client is to the proxy and what it may ask for.
func (c *Client) Self(ctx context.Context) (who api.Client, err error) {
	return who, c.call(ctx, http.MethodGet, api.PathClient, nil, &who)
}

// ReplaceKey puts a new TLS key in the place of the one that this client calls
// with, adds recipients and removes others. From its success on the proxy knows
// the new key only.
func (c *Client) ReplaceKey(ctx context.Context, key crypto.Signer, add, retire []string) (who api.Client, err error) {
	req := api.KeyRequest{Recipients: add, Retire: retire}
	if req.PublicKey, req.Proof, err = auth.ProveKey(key, c.current().pin); err != nil {
		return who, err
	}
	return who, c.call(ctx, http.MethodPost, api.PathClientKey, req, &who)
}

// Register asks for a managed certificate (agent mode). It may be repeated.
func (c *Client) Register(ctx context.Context, names cert.Names, keyType cert.KeyType, profile string) (m api.Certificate, err error) {
	req := api.CertificateRequest{Mode: clients.ModeAgent, Names: names, KeyType: string(keyType), Profile: profile}
	if err := c.call(ctx, http.MethodPost, api.PathCertificates, req, &m); err != nil {
		return m, err
	}
	if m.ID == "" || len(m.ID) > maxID {
		return m, errors.New("the proxy gave the certificate no usable id")
	}
	return m, nil
}

// Certificate reads one managed certificate.
func (c *Client) Certificate(ctx context.Context, id string) (m api.Certificate, err error) {
	return m, c.call(ctx, http.MethodGet, api.PathCertificates+"/"+url.PathEscape(id), nil, &m)
}

// Renew asks for a new key and certificate now, whatever the age of the present
// ones. A *api.Problem with status 429 says when it may be asked again.
func (c *Client) Renew(ctx context.Context, id string) (m api.Certificate, err error) {
	return m, c.call(ctx, http.MethodPost, api.PathCertificates+"/"+url.PathEscape(id)+"/renew", nil, &m)
}

// Certificates lists all managed certificates of this client. What the pages
// take in memory is bounded.
func (c *Client) Certificates(ctx context.Context) ([]api.Certificate, error) {
	all := []api.Certificate{}
	after := ""
	size, values := maxList, api.MaxListValues // that may still come
	for range maxPages {
		var page api.CertificateList
		path := fmt.Sprintf("%s?limit=%d&after=%s", api.PathCertificates, pageSize, url.QueryEscape(after))
		body, err := c.answer(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		n, err := api.Unmarshal(body, min(values, api.MaxValues), &page)
		size, values = size-len(body), values-n
		switch {
		case err != nil:
			return nil, fmt.Errorf("the proxy's answer cannot be read: %w", err)
		case len(page.Certificates) > pageSize || size < 0 || len(page.Next) > maxID:
			return nil, errors.New("the proxy's list is longer than a list can be")
		}
		clean(reflect.ValueOf(&page))
		all = append(all, page.Certificates...)
		if page.Next == "" || page.Next == after || len(page.Certificates) == 0 {
			return all, nil
		}
		after = page.Next
	}
	return nil, fmt.Errorf("the proxy's list has no end; stopped after %d pages", maxPages)
}

// Revoke asks for the revocation of a certificate that this host holds. To
// repeat it is no error.
func (c *Client) Revoke(ctx context.Context, req api.RevokeRequest) (r api.Revocation, err error) {
	return r, c.call(ctx, http.MethodPost, api.PathRevoke, req, &r)
}

// Delete stops the managing of a certificate.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, api.PathCertificates+"/"+url.PathEscape(id), nil, nil)
}

// Bundle pulls the ciphertext of a managed certificate. While it is the one
// with that etag, or none is there yet, the proxy waits; then news is false.
func (c *Client) Bundle(ctx context.Context, id, etag string, wait time.Duration) (ciphertext []byte, newETag string, news bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call+wait)
	defer cancel()
	path := api.PathCertificates + "/" + url.PathEscape(id) + "/bundle"
	if wait > 0 {
		path += "?wait=" + url.QueryEscape(wait.String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url+path, nil)
	if err != nil {
		return nil, "", false, err
	}
	if etag != "" {
		req.Header.Set("If-None-Match", `"`+etag+`"`)
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, "", false, unreachable(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		if etag == "" {
			return nil, "", false, errors.New("the proxy says that nothing is newer, but there is nothing here yet")
		}
		return nil, etag, false, nil
	case http.StatusOK:
		if newETag, err = parseETag(resp.Header.Get("ETag")); err != nil {
			return nil, "", false, err
		}
		body, err := readBounded(resp.Body)
		return body, newETag, true, err
	}
	return nil, "", false, readProblem(resp)
}

// Issue obtains one certificate in gateway mode: the key is made here and never
// leaves. Its errors are *acme.Error, like the Issuer's own, so that what
// works against a CA works through a proxy. A CSR in req is sent as it is; the
// bundle has no key then.
func (c *Client) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	const op = "ask the proxy"
	ask, key, err := request(req)
	if err != nil {
		return nil, &acme.Error{Kind: acme.Permanent, Op: op, Detail: err.Error(), Err: err}
	}
	block := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: ask.DER})
	last, err := c.stream(ctx, api.CertificateRequest{Mode: clients.ModeGateway, CSR: string(block), Profile: req.Profile}, emit)
	if err != nil {
		return nil, asIssuerError(op, err)
	}
	b, err := cert.NewBundle([]byte(last.Chain), key, ask.Public, ask.Names)
	if err != nil {
		return nil, &acme.Error{Kind: acme.Permanent, Op: op, Detail: "the proxy sent something else than was asked for: " + err.Error(), Err: err}
	}
	return b, nil
}

// request is the CSR that is given, or one of a new key.
func request(req cert.Request) (ask *cert.CSR, key crypto.Signer, err error) {
	if req.CSR != nil {
		ask, err = cert.ParseCSR(req.CSR)
		return ask, nil, err
	}
	if key, err = cert.GenerateKey(req.KeyType); err != nil {
		return nil, nil, err
	}
	der, err := cert.NewCSR(key, req.Names)
	return &cert.CSR{DER: der, Names: req.Names, Public: key.Public()}, key, err
}

// stream reads the events of a gateway request and returns the last one.
func (c *Client) stream(ctx context.Context, body api.CertificateRequest, emit func(acme.Event)) (api.Event, error) {
	ctx, end := context.WithTimeoutCause(ctx, c.timing.Stream, fmt.Errorf("the proxy was not done after %v", c.timing.Stream))
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(c.timing.StreamSilence, func() { cancel(fmt.Errorf("the proxy sent nothing for %v", c.timing.StreamSilence)) })
	defer quiet.Stop()
	resp, err := c.send(ctx, http.MethodPost, api.PathCertificates, body)
	if err != nil {
		return api.Event{}, hungUp(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return api.Event{}, readProblem(resp)
	}
	last, err := readEvents(resp.Body, func(e api.Event) {
		quiet.Reset(c.timing.StreamSilence)
		if emit != nil && e.Event == api.EventStage {
			emit(acme.Event{Stage: acme.Stage(printable(e.Stage)), Identifier: printable(e.Identifier)})
		}
	})
	return last, hungUp(ctx, err)
}

// readEvents shows each event of a stream but the last, which it returns. The
// length of a line is bounded, and so is their number.
func readEvents(r io.Reader, show func(api.Event)) (api.Event, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), api.MaxEvent)
	for n := 0; lines.Scan(); n++ {
		var e api.Event
		if _, err := api.Unmarshal(lines.Bytes(), maxEventValues, &e); err != nil || n > maxEvents {
			return api.Event{}, errors.New("the proxy's answer is not a stream of events")
		}
		switch e.Event {
		case api.EventCertificate:
			return e, nil
		case api.EventProblem:
			if e.Problem == nil {
				e.Problem = &api.Problem{Status: http.StatusServiceUnavailable, Detail: "the proxy failed and did not say why"}
			}
			return e, cleanProblem(e.Problem)
		}
		show(e)
	}
	if err := lines.Err(); err != nil {
		return api.Event{}, fmt.Errorf("read the proxy's answer: %w", err)
	}
	return api.Event{}, errors.New("the proxy ended its answer before the certificate came")
}

// hungUp names the reason when it was we who hung up.
func hungUp(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, ctx.Err()) {
		return cause
	}
	return err
}

// asIssuerError gives a refusal the kind that a CA's would have.
func asIssuerError(op string, err error) error {
	e := &acme.Error{Kind: acme.Temporary, Op: op, Detail: err.Error(), Err: err}
	var p *api.Problem
	if !errors.As(err, &p) {
		return e
	}
	e.Op, e.Told = "", true // the proxy's own words need no more
	switch {
	case p.Status == http.StatusTooManyRequests:
		e.Kind = acme.RateLimited
	case p.Status < 500:
		e.Kind = acme.Permanent
	}
	if p.RetryAfter > 0 {
		e.RetryAt = time.Now().Add(time.Duration(p.RetryAfter) * time.Second)
	}
	return e
}

// call is one JSON request and answer.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.answer(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	return decode(body, out)
}

// answer sends a JSON request and returns the text of the answer.
func (c *Client) answer(ctx context.Context, method, path string, in any) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call)
	defer cancel()
	resp, err := c.send(ctx, method, path, in)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 300 {
		return nil, readProblem(resp)
	}
	return readBounded(resp.Body)
}

func (c *Client) send(ctx context.Context, method, path string, in any) (*http.Response, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return nil, err
	}
	if in != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := c.do(req)
	if err != nil {
		return nil, unreachable(err)
	}
	return resp, nil
}

// unreachable leaves out the method and the URL, which say nothing new.
func unreachable(err error) error {
	if errors.Is(err, ErrPin) {
		return ErrPin
	}
	whole := err
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	var unsent *unsentError
	sent := !errors.As(whole, &unsent)
	return &unreachableError{err, sent}
}
