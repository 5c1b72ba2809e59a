package remote

import (
	"context"
	"net/http"
	"net/url"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// Present asks the proxy to answer an HTTP-01 challenge of this host's own CA account,
// for one name. When it returns, the CA can fetch the answer. It may be repeated.
func (c *Client) Present(ctx context.Context, name, token, keyAuthorization string) (a api.Presented, err error) {
	req := api.PresentRequest{Name: name, KeyAuthorization: keyAuthorization}
	return a, c.call(ctx, http.MethodPut, api.PathHTTP01+"/"+url.PathEscape(token), req, &a)
}

// Withdraw ends an answer of Present. It may be repeated.
func (c *Client) Withdraw(ctx context.Context, name, token string) error {
	path := api.PathHTTP01 + "/" + url.PathEscape(token) + "?name=" + url.QueryEscape(name)
	return c.call(ctx, http.MethodDelete, path, nil, nil)
}
