package remote

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/envproxy"
)

// session holds the connections with one TLS key.
type session struct {
	http *http.Client
	pin  [32]byte // of the key
}

func (c *Client) newSession(key tls.Certificate) session {
	return session{http: c.connect(key), pin: auth.SPKIPin(key.Leaf)}
}

func (s *State) connect(pin [32]byte, key tls.Certificate, ping time.Duration) *http.Client {
	transport := &http.Transport{
		Proxy:                  envproxy.Func(s.Getenv),
		OnProxyConnectResponse: envproxy.Refused(s.Getenv), //nolint:bodyclose // net/http closes it
		TLSClientConfig: &tls.Config{
			MinVersion:   tls.VersionTLS13,
			Certificates: []tls.Certificate{key},
			NextProtos:   []string{"h2", "http/1.1", api.ALPN},
			// VerifyConnection checks the pin, which is stronger than a CA's signature.
			InsecureSkipVerify: true, //nolint:gosec // see the line above
			VerifyConnection:   func(c tls.ConnectionState) error { return verifyPin(c, pin) },
		},
		ForceAttemptHTTP2:   true,
		HTTP2:               &http.HTTP2Config{SendPingTimeout: ping, PingTimeout: ping},
		TLSHandshakeTimeout: 15 * time.Second,
		IdleConnTimeout:     2 * time.Minute,
	}
	return &http.Client{
		Transport: &agentTransport{transport, s.UserAgent},
		// A redirect could send a request to another server. The API has no redirects.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// do sends a request. If the proxy does not know our key, a rekey may have replaced
// it. Then do sends the request again with the new key.
func (c *Client) do(req *http.Request) (*http.Response, error) {
	used := c.current()
	resp, err := c.exchange(used, req)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || c.otherKey == nil {
		return resp, err
	}
	now, err := c.replaceSession(req.Context(), used)
	if err != nil || now.pin == used.pin {
		return resp, nil //nolint:nilerr // the refusal is more informative
	}
	resp.Body.Close()
	again := req.Clone(req.Context())
	if req.GetBody != nil {
		if again.Body, err = req.GetBody(); err != nil {
			return nil, err
		}
	}
	return c.exchange(now, again)
}

// unsentError reports that there was no connection for a request.
type unsentError struct{ error }

func (e *unsentError) Unwrap() error { return e.error }

// exchange sends a request. It returns an *unsentError if the request cannot have
// arrived.
func (c *Client) exchange(with session, req *http.Request) (*http.Response, error) {
	var connected atomic.Bool
	trace := &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }}
	resp, err := with.http.Do(req.WithContext(httptrace.WithClientTrace(req.Context(), trace)))
	switch {
	case err != nil && !connected.Load():
		return nil, &unsentError{err}
	case err == nil && c.answered != nil:
		c.answered()
	}
	return resp, err
}

func (c *Client) current() session {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// replaceSession returns the session that replaces one whose key was refused.
func (c *Client) replaceSession(ctx context.Context, used session) (session, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.session.pin != used.pin {
		return c.session, nil // another request was refused first
	}
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call)
	defer cancel()
	key, err := c.otherKey(ctx, used.pin)
	if err != nil || key == nil {
		return used, err
	}
	c.session = c.newSession(*key)
	used.http.CloseIdleConnections()
	return c.session, nil
}

func verifyPin(s tls.ConnectionState, pin [32]byte) error {
	got := auth.SPKIPin(s.PeerCertificates[0])
	if subtle.ConstantTimeCompare(got[:], pin[:]) != 1 {
		return ErrPin
	}
	return nil
}

type agentTransport struct {
	next      http.RoundTripper
	userAgent string
}

// CloseIdleConnections implements the optional interface that http.Client uses.
func (t *agentTransport) CloseIdleConnections() {
	if next, ok := t.next.(interface{ CloseIdleConnections() }); ok {
		next.CloseIdleConnections()
	}
}

func (t *agentTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("User-Agent", t.userAgent)
	return t.next.RoundTrip(r)
}
