package acmeserver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// request is a request whose signature was verified.
type request struct {
	*http.Request
	addr    netip.Addr
	key     *jws.Key // that signed it
	account Account  // zero if the request was signed with a key of no account
	payload []byte   // empty for POST-as-GET
	message *jws.Message
}

// asGet reports whether the request is a POST-as-GET (RFC 8555, section 6.3).
func (r *request) asGet() bool { return len(r.payload) == 0 }

// answer holds the result of a handler of a signed request. The front writes it.
type answer struct {
	status   int // 200 if 0
	location string
	links    []string    // complete Link headers other than rel="index"
	header   http.Header // further headers; may be nil
	body     any         // JSON; or raw, if kind is set
	kind     string      // content type of a []byte body
}

// handler decides about a signed request. An error that is an *acme.Problem is the
// answer. Any other error is logged, and the answer is serverInternal.
type handler func(ctx context.Context, r *request) (*answer, error)

const contentType = "application/jose+json" // RFC 8555, section 6.2

// signed returns the HTTP handler of a signed request. by says whether the request must
// be signed by its own key, by an account, or may be either.
func (s *Server) signed(by jws.Signer, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		r, err := s.verify(req, by)
		if err != nil {
			s.fail(w, req, err)
			return
		}
		a, err := h(req.Context(), r)
		if err != nil {
			s.fail(w, req, err)
			return
		}
		s.write(w, a)
	}
}

// verify checks the request as RFC 8555, section 6 demands, the cheap checks first. The
// nonce is used up only by a correct signature.
func (s *Server) verify(req *http.Request, by jws.Signer) (*request, error) {
	kind, _, _ := strings.Cut(req.Header.Get("Content-Type"), ";")
	if !strings.EqualFold(strings.TrimSpace(kind), contentType) {
		return nil, problem(acme.Malformed, http.StatusUnsupportedMediaType, "Content-Type: it must be "+contentType)
	}
	body, err := io.ReadAll(req.Body)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return nil, problem(acme.Malformed, http.StatusRequestEntityTooLarge, "the request is too large")
	case err != nil:
		return nil, problem(acme.Malformed, http.StatusBadRequest, "the request's body ended early")
	}
	m, err := jws.Parse(body, by)
	if err != nil {
		return nil, err
	}
	if err := s.checkURL(req, m.Header.URL); err != nil {
		return nil, err
	}
	expires, err := s.nonces.check(req.Context(), m.Header.Nonce)
	if err != nil {
		return nil, err
	}
	r := &request{Request: req, addr: remoteAddr(req), message: m, key: m.Header.Key}
	if r.key == nil {
		if r.account, err = s.accountOf(req.Context(), m.Header.Kid); err != nil {
			return nil, err
		}
		if r.key, err = s.keys.parse(r.account.Key); err != nil {
			return nil, err
		}
	}
	if r.payload, err = m.Verify(r.key); err != nil {
		return nil, err
	}
	if err := s.nonces.use(req.Context(), m.Header.Nonce, expires); err != nil {
		return nil, err
	}
	if r.account.ID != "" {
		if err := s.mayUse(req.Context(), r); err != nil {
			return nil, err
		}
	}
	return r, nil
}

// checkURL refuses a request that is signed for another URL. The log gets both, because
// the usual cause is a proxy in front, or a wrong Config.URL.
func (s *Server) checkURL(req *http.Request, signed string) error {
	want := s.cfg.URL + strings.TrimPrefix(req.URL.EscapedPath(), s.base)
	if req.URL.RawQuery != "" {
		want += "?" + req.URL.RawQuery
	}
	if signed == want {
		return nil
	}
	return &Refusal{
		// RFC 8555, section 6.4, demands this type and status.
		Problem: problem(acme.Unauthorized, http.StatusUnauthorized,
			"url: it is not the URL of this request, which is "+printableURL(want)),
		note: []any{"signed", printableURL(signed), "want", printableURL(want)},
	}
}
