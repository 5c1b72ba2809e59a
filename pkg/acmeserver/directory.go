package acmeserver

import (
	"errors"
	"net/http"
	"strings"
)

// directory is the directory of an entrance (RFC 8555, section 7.1.1).
type directory struct {
	NewNonce    string `json:"newNonce"`
	NewAccount  string `json:"newAccount"`
	NewOrder    string `json:"newOrder"`
	RevokeCert  string `json:"revokeCert"`
	KeyChange   string `json:"keyChange"`
	RenewalInfo string `json:"renewalInfo"` // RFC 9773, section 4
	Meta        meta   `json:"meta"`
}

type meta struct {
	TermsOfService          string            `json:"termsOfService"` // some clients crash without
	Website                 string            `json:"website,omitempty"`
	CAAIdentities           []string          `json:"caaIdentities,omitempty"`
	ExternalAccountRequired bool              `json:"externalAccountRequired"`
	Profiles                map[string]string `json:"profiles,omitempty"`
}

func (s *Server) serveDirectory(w http.ResponseWriter, req *http.Request) {
	entrance := req.PathValue("entrance")
	required, err := s.cfg.Accounts.RequiresBinding(req.Context(), entrance)
	if errors.Is(err, ErrNotFound) {
		err = notFound("directory")
	}
	if err != nil {
		s.fail(w, req, err)
		return
	}
	at := strings.TrimSuffix(s.directoryOf(req), pathDirectory)
	s.write(w, &answer{body: directory{
		NewNonce:    at + pathNonce,
		NewAccount:  at + pathNewAccount,
		NewOrder:    s.url(pathNewOrder),
		RevokeCert:  s.url(pathRevoke),
		KeyChange:   s.url(pathKeyChange),
		RenewalInfo: s.url(pathRenewal),
		Meta: meta{
			TermsOfService:          s.termsURL(),
			Website:                 s.cfg.Website,
			CAAIdentities:           s.cfg.CAAIdentities,
			ExternalAccountRequired: required,
			Profiles:                s.cfg.Profiles,
		},
	}})
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

func (s *Server) serveTerms(w http.ResponseWriter, _ *http.Request) {
	s.write(w, &answer{
		kind: "text/plain; charset=utf-8",
		body: []byte("This ACME server has no terms of service. Its operator decides who may use it.\n"),
	})
}
