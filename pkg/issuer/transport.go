package issuer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	maxBody      = 1 << 20         // bytes of an answer; chains are a few KiB
	maxNonces    = 128             // nonces stored for later requests
	maxNonce     = 1024            // bytes of a nonce; longer ones are dropped
	nonceTTL     = 5 * time.Minute // CAs forget nonces; an old one costs a round trip
	directoryTTL = time.Hour

	staleDirectory = 24 * time.Hour // age up to which a directory is used if reading a new one fails
	maxRedirects   = 5              // redirects of the directory
)

// wire holds what all issuances at one CA share: the connections, the directory and
// the nonces. lego's api package shares none of them. It also has no context and no
// limit on bodies, and panics on a body of "null".
type wire struct {
	base         http.RoundTripper
	directoryURL string
	private      bool // the CA has configured roots
	now          func() time.Time
	heads        *semaphore.Weighted // limits the newNonce requests in flight

	mu         sync.Mutex
	nonces     []nonce   // the oldest first; guarded by mu
	dirBody    []byte    // guarded by mu
	dirFetched time.Time // guarded by mu
}

type nonce struct {
	value string
	got   time.Time
}

func newWire(base http.RoundTripper, directoryURL string, now func() time.Time) *wire {
	return &wire{base: base, directoryURL: directoryURL, now: now, heads: semaphore.NewWeighted(4)}
}

// session is one issuance's use of the wire. It is the http.RoundTripper of its own
// api.Core, binds every request to ctx and stores Retry-After.
type session struct {
	*wire
	ctx context.Context //nolint:containedctx // lego's api package has none

	mu      sync.Mutex
	retryAt map[string]time.Time // by URL; guarded by mu
	links   map[string][]string  // alternate chains, by URL; guarded by mu

	answered  int // POST requests without an error; guarded by mu
	badNonces int // answers badNonce; guarded by mu
}

func (w *wire) session(ctx context.Context) *session {
	return &session{wire: w, ctx: ctx, retryAt: map[string]time.Time{}, links: map[string][]string{}}
}

// RoundTrip sends one request of lego's. It returns every answer with an error
// status as a *refusal, so that lego neither repeats nor interprets it.
func (s *session) RoundTrip(r *http.Request) (*http.Response, error) {
	url := r.URL.String()
	switch {
	case r.Method == http.MethodGet && url == s.directoryURL:
		return s.getDirectory(r)
	case r.Method == http.MethodHead:
		return s.getNonce(r)
	}
	resp, err := s.send(r)
	if err != nil {
		return nil, err
	}
	if location := resp.Header.Get("Location"); location != "" {
		if location, err = s.resolve(url, location); err != nil {
			return nil, err
		}
		resp.Header.Set("Location", location)
	}
	s.noteAlternates(url, resp.Header)
	s.mu.Lock()
	s.answered++
	s.mu.Unlock()
	return resp, nil
}

// send sends a request and reads the answer completely, up to maxBody, so that its
// connection can be reused even if lego does not read the body. It moves the nonce
// to the shared pool, because lego's own pool must not use it.
func (s *session) send(r *http.Request) (*http.Response, error) {
	resp, err := s.base.RoundTrip(r.WithContext(s.ctx))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if n := resp.Header.Get("Replay-Nonce"); n != "" && r.Method != http.MethodHead {
		resp.Header.Del("Replay-Nonce")
		s.putNonce(n)
	}
	url := r.URL.String()
	s.noteRetryAfter(url, resp.Header)
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the CA's answer: %w", err)
	}
	if len(body) > maxBody {
		return nil, fmt.Errorf("the CA's answer is larger than %d bytes", maxBody)
	}
	redirected := resp.StatusCode >= 300 && (r.Method != http.MethodGet || resp.StatusCode == http.StatusNotModified)
	if resp.StatusCode >= 400 || redirected {
		return nil, s.refusal(url, resp, body)
	}
	switch trimmed := bytes.TrimSpace(body); {
	case string(trimmed) == "null": // lego panics on it
		return nil, fmt.Errorf("the CA answered %d with an empty document", resp.StatusCode)
	case bytes.HasPrefix(trimmed, []byte("<")) && resp.StatusCode < 300 && url != s.directoryURL:
		return nil, fmt.Errorf("the CA answered %d with a web page", resp.StatusCode)
	}
	resp.Body = io.NopCloser(bytes.NewReader(nullEmptyDates(body)))
	return resp, nil
}

// getDirectory returns the directory from memory for directoryTTL. If it cannot be
// read again, the old one is used until staleDirectory.
func (s *session) getDirectory(r *http.Request) (*http.Response, error) {
	s.wire.mu.Lock()
	known, age := s.dirBody, s.now().Sub(s.dirFetched)
	s.wire.mu.Unlock()
	header := http.Header{"Content-Type": {"application/json"}}
	if known != nil && age < directoryTTL {
		return newResponse(r, header, known), nil
	}
	body, err := repeat(s, isTransient, func() ([]byte, error) { return s.fetchDirectory(r) })
	switch {
	case err == nil:
	case known != nil && age < staleDirectory && isTransient(err):
		return newResponse(r, header, known), nil
	default:
		return nil, exhausted{err}
	}
	s.wire.mu.Lock()
	s.dirBody, s.dirFetched = body, s.now()
	s.wire.mu.Unlock()
	return newResponse(r, header, body), nil
}

// fetchDirectory reads the directory. It follows redirects, unlike POST requests.
func (s *session) fetchDirectory(r *http.Request) ([]byte, error) {
	for range maxRedirects {
		resp, err := s.send(r) //nolint:bodyclose // send has read and closed it
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 300 {
			location, err := s.resolve(r.URL.String(), resp.Header.Get("Location"))
			if err != nil {
				return nil, err
			}
			r = r.Clone(s.ctx)
			if r.URL, err = r.URL.Parse(location); err != nil {
				return nil, err
			}
			r.Host = ""
			continue
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		return s.checkDirectory(r.URL.String(), body)
	}
	return nil, errors.New("the CA's directory has too many redirects")
}

// getNonce returns a nonce from the pool, or from the CA if the pool is empty. It
// requests few at a time, because CAs limit newNonce most, and each answered POST
// contains another nonce.
func (s *session) getNonce(r *http.Request) (*http.Response, error) {
	if n := s.popNonce(); n != "" {
		return newResponse(r, http.Header{"Replay-Nonce": {n}}, nil), nil
	}
	if err := s.heads.Acquire(s.ctx, 1); err != nil {
		return nil, err
	}
	defer s.heads.Release(1)
	if n := s.popNonce(); n != "" {
		return newResponse(r, http.Header{"Replay-Nonce": {n}}, nil), nil
	}
	resp, err := read(s, func() (*http.Response, error) {
		resp, err := s.send(r)
		if err == nil && resp.Header.Get("Replay-Nonce") == "" {
			err = errors.New("the CA sent no nonce")
		}
		return resp, err
	})
	if err != nil {
		return nil, exhausted{err}
	}
	return resp, nil
}

func (w *wire) popNonce() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(w.nonces)
	if n == 0 {
		return ""
	}
	newest := w.nonces[n-1]
	if newest.got.Before(w.now().Add(-nonceTTL)) { // the others are older
		w.nonces = w.nonces[:0]
		return ""
	}
	w.nonces = w.nonces[:n-1]
	return newest.value
}

func (w *wire) putNonce(value string) {
	if len(value) > maxNonce {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.nonces) >= maxNonces {
		w.nonces = slices.Delete(w.nonces, 0, 1)
	}
	w.nonces = append(w.nonces, nonce{value, w.now()})
}

func (s *session) noteRetryAfter(url string, h http.Header) {
	at := parseRetryAfter(h, s.now())
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retryAt[url] = at
}

func (s *session) noteAlternates(url string, h http.Header) {
	links := s.resolveAll(url, alternateLinks(url, h))
	if len(links) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.links[url] = links
}

// resolveAll returns the URLs that may be requested, as absolute URLs.
func (w *wire) resolveAll(base string, urls []string) (left []string) {
	for _, u := range urls {
		if u, err := w.resolve(base, u); err == nil {
			left = append(left, u)
		}
	}
	return left
}

// alternates returns the URLs of other chains that the answer from url offered.
func (s *session) alternates(url string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.links[url]
}

// retryAfter returns the Retry-After of the last answer from url.
func (s *session) retryAfter(url string) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.retryAt[url]
}

// latestRetryAfter limits how far ahead a Retry-After can be. The longest limits of
// public CAs are a week, and a broken answer must not delay a certificate for years.
const latestRetryAfter = 8 * 24 * time.Hour

// parseRetryAfter parses seconds or a date (RFC 9110, section 10.2.3). It returns
// the zero time if the header is missing or malformed.
func parseRetryAfter(h http.Header, now time.Time) time.Time {
	at := readRetryAfter(h, now)
	if latest := now.Add(latestRetryAfter); at.After(latest) {
		return latest
	}
	return at
}

// readRetryAfter is parseRetryAfter without the limit. A date is relative to the
// answer's Date, because our clock may differ from the CA's.
func readRetryAfter(h http.Header, now time.Time) time.Time {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if value == "" {
		return time.Time{}
	}
	if seconds, err := strconv.ParseInt(value, 10, 32); err == nil && seconds >= 0 {
		return now.Add(time.Duration(seconds) * time.Second)
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return time.Time{}
	}
	if sent, err := http.ParseTime(strings.TrimSpace(h.Get("Date"))); err == nil {
		return now.Add(at.Sub(sent))
	}
	return at
}

// newResponse returns a response with a known body, without a request to the CA.
func newResponse(r *http.Request, h http.Header, body []byte) *http.Response {
	return &http.Response{
		Status: "200 OK", StatusCode: http.StatusOK,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h.Clone(), Body: io.NopCloser(bytes.NewReader(body)),
		ContentLength: int64(len(body)), Request: r,
	}
}

// copyRetryAfter applies the Retry-After of one URL to another. finalize returns the
// order, which is then polled at its own URL.
func (s *session) copyRetryAfter(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retryAt[to] = s.retryAt[from]
}
