package admin

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
)

// strictHeader is in all answers of a server that refuses unknown query parameters.
// Earlier servers ignore them, and so answer with more than the caller selected.
const strictHeader = "Acmeproxy-Strict-Query"

// knownToAll lists the query parameters that all servers know.
var knownToAll = []string{"client", "outcome", "after", "before", "limit"}

// errIgnores reports that the server ignored a parameter that selects.
var errIgnores = errors.New("the running acmeproxy serve is older than this program and cannot select by these values; restart acmeproxy serve with the program of this version")

// checkQuery refuses query parameters that an operation does not know, so that no
// caller takes an answer for a narrower one.
func checkQuery(r *http.Request, known []string) error {
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return refuse(http.StatusBadRequest, "query: it is not valid; use parameters such as name=www.example.com, joined by &")
	}
	for key, values := range query {
		if !slices.Contains(known, key) {
			return refuse(http.StatusBadRequest, "query: the parameter %.32q is unknown; use programs of the same version", key)
		}
		if len(values) > 1 {
			return refuse(http.StatusBadRequest, "query: the parameter %q is given %d times; give it once", key, len(values))
		}
	}
	return nil
}

// selected reads the part of a list that query selects. It returns an error if the
// server may have ignored a part of the query.
func (a *Admin) selected(ctx context.Context, path string, query url.Values, out any) error {
	header, err := a.exchange(ctx, http.MethodGet, path+"?"+query.Encode(), nil, out)
	if err != nil || header.Get(strictHeader) != "" {
		return err
	}
	for key := range query {
		if !slices.Contains(knownToAll, key) {
			return errIgnores
		}
	}
	return nil
}
