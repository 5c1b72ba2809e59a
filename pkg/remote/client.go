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

// ErrPin means that the server at the proxy's address does not have the key that
// was pinned at enrolment.
var ErrPin = errors.New("the server has another key than the one pinned at enrolment: it is not the proxy, or another host intercepts the connection; if the proxy was installed again, enrol again")

// Client calls the native API. Refusals are *api.Problem, except those of Issue. It
// is safe for concurrent use.
type Client struct {
	url    string
	timing Timing
	// connect returns an HTTP client that uses a TLS key.
	connect func(tls.Certificate) *http.Client
	// otherKey, if not nil, is called when the proxy does not know the TLS key with
	// this pin. It returns another TLS key, or nil if it finds none.
	otherKey func(ctx context.Context, pin [32]byte) (*tls.Certificate, error)
	// answered, if not nil, is called for each answer of the proxy.
	answered func()

	mu      sync.Mutex
	session session // guarded by mu; replaced together with the key
}

const (
	maxEvents      = 10_000   // in a stream
	maxEventValues = 4096     // JSON values in an event
	maxPages       = 1000     // in a list
	pageSize       = 100      // certificates
	maxList        = 64 << 20 // bytes of all pages of a list
	maxID          = 64       // bytes
)

// newClient returns a client of the proxy, whose key must have the pin. It
// authenticates with the TLS key.
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

// Self returns this client's name at the proxy, its recipients and its grants.
func (c *Client) Self(ctx context.Context) (who api.Client, err error) {
	return who, c.call(ctx, http.MethodGet, api.PathClient, nil, &who)
}

// ReplaceKey replaces the TLS key of this client at the proxy, adds recipients and
// removes others. After it has succeeded, the proxy knows only the new key.
func (c *Client) ReplaceKey(ctx context.Context, key crypto.Signer, add, retire []string) (who api.Client, err error) {
	req := api.KeyRequest{Recipients: add, Retire: retire}
	if req.PublicKey, req.Proof, err = auth.ProveKey(key, c.current().pin); err != nil {
		return who, err
	}
	return who, c.call(ctx, http.MethodPost, api.PathClientKey, req, &who)
}

// Register requests a managed certificate (agent mode). It may be repeated.
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

// Certificate returns one managed certificate.
func (c *Client) Certificate(ctx context.Context, id string) (m api.Certificate, err error) {
	return m, c.call(ctx, http.MethodGet, api.PathCertificates+"/"+url.PathEscape(id), nil, &m)
}

// Renew requests a new key and certificate now, even if the present ones are not due
// for renewal. An *api.Problem with status 429 contains the time of the next retry.
func (c *Client) Renew(ctx context.Context, id string) (m api.Certificate, err error) {
	return m, c.call(ctx, http.MethodPost, api.PathCertificates+"/"+url.PathEscape(id)+"/renew", nil, &m)
}

// Certificates lists all managed certificates of this client. It bounds the memory
// that the pages use.
func (c *Client) Certificates(ctx context.Context) ([]api.Certificate, error) {
	all := []api.Certificate{}
	after := ""
	size, values := maxList, api.MaxListValues // left for the following pages
	for range maxPages {
		var page api.CertificateList
		path := fmt.Sprintf("%s?limit=%d&after=%s", api.PathCertificates, pageSize, url.QueryEscape(after))
		body, err := c.readAnswer(ctx, http.MethodGet, path, nil)
		if err != nil {
			return nil, err
		}
		n, err := api.Unmarshal(body, min(values, api.MaxValues), &page)
		size, values = size-len(body), values-n
		switch {
		case err != nil:
			return nil, fmt.Errorf("the proxy's answer cannot be read: %w", err)
		case len(page.Certificates) > pageSize || size < 0 || len(page.Next) > maxID:
			return nil, errors.New("the proxy's list exceeds the limit")
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

// Revoke requests the revocation of a certificate that this host holds. It may be
// repeated.
func (c *Client) Revoke(ctx context.Context, req api.RevokeRequest) (r api.Revocation, err error) {
	return r, c.call(ctx, http.MethodPost, api.PathRevoke, req, &r)
}

// Delete makes the proxy stop managing a certificate. If other hosts of this client
// use it, the proxy refuses this with status 409, unless shared is set.
func (c *Client) Delete(ctx context.Context, id string, shared bool) error {
	path := api.PathCertificates + "/" + url.PathEscape(id)
	if shared {
		path += "?shared=true"
	}
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}

// Bundle returns the ciphertext of a managed certificate. If the proxy has no bundle,
// or only the one with that etag, it waits for a new one for the given time. If none
// comes, news is false.
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
		return nil, "", false, asUnreachable(err)
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusNotModified:
		if etag == "" {
			return nil, "", false, errors.New("the proxy sent 304 (not modified), but this host has no bundle yet")
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

// Issue obtains one certificate in gateway mode. It generates the key, which never
// leaves this host. Its errors are *acme.Error, as the Issuer's, so callers treat a
// proxy and a CA alike. If req has a CSR, Issue sends that, and the bundle has no key.
func (c *Client) Issue(ctx context.Context, req cert.Request, emit func(acme.Event)) (*cert.Bundle, error) {
	const op = "ask the proxy"
	ask, key, err := prepareCSR(req)
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
		return nil, &acme.Error{Kind: acme.Permanent, Op: op, Detail: "the proxy sent a certificate that does not match the request: " + err.Error(), Err: err}
	}
	return b, nil
}

// prepareCSR returns the CSR of req, or a CSR for a new key.
func prepareCSR(req cert.Request) (ask *cert.CSR, key crypto.Signer, err error) {
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

// stream sends a gateway request, reads its events and returns the last one.
func (c *Client) stream(ctx context.Context, body api.CertificateRequest, emit func(acme.Event)) (api.Event, error) {
	ctx, end := context.WithTimeoutCause(ctx, c.timing.Stream, fmt.Errorf("the proxy did not finish within %v", c.timing.Stream))
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	quiet := time.AfterFunc(c.timing.StreamSilence, func() { cancel(fmt.Errorf("the proxy sent nothing for %v", c.timing.StreamSilence)) })
	defer quiet.Stop()
	resp, err := c.send(ctx, http.MethodPost, api.PathCertificates, body)
	if err != nil {
		return api.Event{}, abortCause(ctx, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return api.Event{}, readProblem(resp)
	}
	last, err := readEvents(resp.Body, func(e api.Event) {
		quiet.Reset(c.timing.StreamSilence)
		if emit != nil && e.Event == api.EventStage {
			emit(acme.Event{Stage: acme.Stage(toPrintable(e.Stage)), Identifier: toPrintable(e.Identifier)})
		}
	})
	return last, abortCause(ctx, err)
}

// readEvents returns the last event of a stream and passes all others to show. It
// bounds the length of a line and the number of events.
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

// abortCause returns the cause of ctx if this side aborted the request, or else err.
func abortCause(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); err != nil && cause != nil && !errors.Is(cause, ctx.Err()) {
		return cause
	}
	return err
}

// asIssuerError returns err as an *acme.Error, of the kind that a CA's refusal has.
func asIssuerError(op string, err error) error {
	e := &acme.Error{Kind: acme.Temporary, Op: op, Detail: err.Error(), Err: err}
	var p *api.Problem
	if !errors.As(err, &p) {
		return e
	}
	e.Op, e.Told = "", true // the proxy's text is complete
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

// call sends a JSON request and decodes the answer.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	body, err := c.readAnswer(ctx, method, path, in)
	if err != nil || out == nil {
		return err
	}
	return decode(body, out)
}

// readAnswer sends a JSON request and returns the text of the answer.
func (c *Client) readAnswer(ctx context.Context, method, path string, in any) ([]byte, error) {
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
		return nil, asUnreachable(err)
	}
	return resp, nil
}

// asUnreachable returns err as an *unreachableError, without the method and the URL.
func asUnreachable(err error) error {
	if errors.Is(err, ErrPin) {
		return ErrPin
	}
	sent := !errors.As(err, new(*unsentError))
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}

	return &unreachableError{err, sent}
}
