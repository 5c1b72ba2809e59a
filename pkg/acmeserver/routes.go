package acmeserver

import (
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// The paths below the URL. An entrance has a directory and a newAccount of its own at
// /at/ENTRANCE.
const (
	pathDirectory  = "/directory"
	pathNonce      = "/new-nonce"
	pathNewAccount = "/new-account"
	pathNewOrder   = "/new-order"
	pathRevoke     = "/revoke-cert"
	pathKeyChange  = "/key-change"
	pathRenewal    = "/renewal-info"
	pathTerms      = "/terms"
	pathAccount    = "/account/"
	pathEntrance   = "/at/"
)

// routes returns the handlers. The answer of each path and method is a problem document,
// if it has no other.
func (s *Server) routes() *http.ServeMux {
	mux := http.NewServeMux()
	at := pathEntrance + "{entrance}"
	read := map[string]http.HandlerFunc{
		"/{$}":                s.serveDirectory, // for clients that were given the URL itself
		pathDirectory:         s.serveDirectory,
		at + pathDirectory:    s.serveDirectory,
		pathNonce:             s.serveNonce,
		at + pathNonce:        s.serveNonce,
		pathRenewal + "/{id}": s.serveRenewalInfo,
	}
	if s.base != "" {
		read[""] = s.serveDirectory
	}
	if s.cfg.Terms == "" {
		read[pathTerms] = s.serveTerms
	}
	for path, h := range read {
		mux.HandleFunc("GET "+s.base+path, h) // also HEAD
		mux.HandleFunc(s.base+path, s.allowOnly("GET, HEAD"))
	}
	byKey, byAccount := jws.ByKey, jws.ByAccount
	for path, h := range map[string]http.HandlerFunc{
		pathNewAccount:                    s.signed(byKey, s.newAccount),
		at + pathNewAccount:               s.signed(byKey, s.newAccount),
		pathNewOrder:                      s.signed(byAccount, s.newOrder),
		pathRevoke:                        s.signed(byKey|byAccount, s.revoke),
		pathKeyChange:                     s.signed(byAccount, s.keyChange),
		pathAccount + "{id}":              s.signed(byAccount, s.account),
		pathAccount + "{id}/orders":       s.signed(byAccount, s.accountOrders),
		"/order/{id}":                     s.signed(byAccount, s.order),
		"/order/{id}/finalize":            s.signed(byAccount, s.finalize),
		"/authorization/{id}/{n}":         s.signed(byAccount, s.authorization),
		"/challenge/{id}/{n}/{type}":      s.signed(byAccount, s.challenge),
		"/certificate/{id}":               s.signed(byAccount, s.certificate),
		"/certificate/{id}/{alternative}": s.signed(byAccount, s.certificate),
	} {
		mux.HandleFunc("POST "+s.base+path, h)
		mux.HandleFunc(s.base+path, s.allowOnly("POST"))
	}
	mux.HandleFunc("/", s.serveUnknown)
	return mux
}

// allowOnly refuses requests with other methods.
func (s *Server) allowOnly(methods string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Allow", methods)
		s.writeProblem(w, problem(acme.Malformed, http.StatusMethodNotAllowed,
			"method: this URL supports "+methods+" only"))
	}
}

func (s *Server) serveUnknown(w http.ResponseWriter, _ *http.Request) {
	s.writeProblem(w, problem(acme.Malformed, http.StatusNotFound,
		"this URL does not exist; the directory is at "+s.url(pathDirectory)))
}
