package acmeserver

import (
	"errors"
	"net/http"
	"strings"
)

// wireDirectory is a directory as a client reads it (RFC 8555, section 7.1.1).
type wireDirectory struct {
	NewNonce    string   `json:"newNonce"`
	NewAccount  string   `json:"newAccount"`
	NewOrder    string   `json:"newOrder"`
	RevokeCert  string   `json:"revokeCert"`
	KeyChange   string   `json:"keyChange"`
	RenewalInfo string   `json:"renewalInfo"` // RFC 9773, section 4
	Meta        wireMeta `json:"meta"`
}

type wireMeta struct {
	TermsOfService          string            `json:"termsOfService"` // some clients crash without
	Website                 string            `json:"website,omitempty"`
	CAAIdentities           []string          `json:"caaIdentities,omitempty"`
	ExternalAccountRequired bool              `json:"externalAccountRequired"`
	Profiles                map[string]string `json:"profiles,omitempty"`
}

// directory returns the directory of the entrance that the request names.
func (s *Server) directory(req *http.Request) (*answer, error) {
	entrance := req.PathValue("entrance")
	required, err := s.cfg.Accounts.RequiresBinding(req.Context(), entrance)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil, noDirectory()
	case err != nil:
		return nil, err
	}
	ca := s.meta(req.Context())
	at := strings.TrimSuffix(s.directoryOf(req), pathDirectory)
	return &answer{body: wireDirectory{
		NewNonce:    at + pathNonce,
		NewAccount:  at + pathNewAccount,
		NewOrder:    s.url(pathNewOrder),
		RevokeCert:  s.url(pathRevoke),
		KeyChange:   s.url(pathKeyChange),
		RenewalInfo: s.url(pathRenewal),
		Meta: wireMeta{
			TermsOfService:          s.termsURL(),
			Website:                 s.cfg.Website,
			CAAIdentities:           ca.CAAIdentities,
			ExternalAccountRequired: required,
			Profiles:                ca.Profiles,
		},
	}}, nil
}

// directoryOf returns the URL of the directory of a request: that of its entrance, or
// the common one.
func (s *Server) directoryOf(req *http.Request) string {
	rest, ok := strings.CutPrefix(req.URL.EscapedPath(), s.base+pathEntrance)
	entrance, _, found := strings.Cut(rest, "/")
	if !ok || !found || entrance == "" {
		return s.url(pathDirectory)
	}
	return s.url(pathEntrance + entrance + pathDirectory)
}

// termsURL returns the URL of the terms of service, or of a page which says that the
// server has none.
func (s *Server) termsURL() string {
	if s.cfg.Terms != "" {
		return s.cfg.Terms
	}
	return s.url(pathTerms)
}

// terms returns the page for a server without terms of service.
func (s *Server) terms(*http.Request) (*answer, error) {
	return &answer{
		kind: "text/plain; charset=utf-8",
		body: []byte("This ACME server has no terms of service. Its operator decides who may use it.\n"),
	}, nil
}
