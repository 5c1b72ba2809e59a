package acmeserver

import (
	"context"
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
	pages := map[string]page{
		"/{$}":             s.directory, // for clients that were given the URL itself
		pathDirectory:      s.directory,
		at + pathDirectory: s.directory,
		pathNonce:          s.newNonce,
		at + pathNonce:     s.newNonce,
	}
	if s.base != "" {
		pages[""] = s.directory
	}
	if s.cfg.Terms == "" {
		pages[pathTerms] = s.terms
	}
	for path, p := range pages {
		mux.HandleFunc("GET "+s.base+path, s.open(p)) // also HEAD
		mux.HandleFunc("POST "+s.base+path, s.signed(jws.ByAccount, asGet(p)))
		mux.HandleFunc(s.base+path, s.allowOnly("GET, HEAD, POST"))
	}
	mux.HandleFunc("GET "+s.base+pathRenewal+"/{id}", s.serveRenewalInfo)
	mux.HandleFunc(s.base+pathRenewal+"/{id}", s.allowOnly("GET, HEAD"))
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

// page is a resource that everybody may read.
type page func(req *http.Request) (*answer, error)

// open returns the HTTP handler of a page.
func (s *Server) open(p page) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		a, err := p(req)
		if err != nil {
			s.fail(w, req, err)
			return
		}
		s.write(w, a)
	}
}

// asGet returns the handler that reads a page by POST-as-GET, which RFC 8555, section
// 6.3, demands in addition to GET.
func asGet(p page) handler {
	return func(_ context.Context, r *request) (*answer, error) {
		if !r.asGet() {
			return nil, problem(acme.Malformed, 0, "payload: it must be empty, as nothing can be changed here")
		}
		return p(r.Request)
	}
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
