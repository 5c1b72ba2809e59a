package remote

import (
	"context"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// Check asks the proxy whether a CA could validate names. It takes up to a minute.
func (c *Client) Check(ctx context.Context, names []string) (report api.CheckReport, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timing.Call+api.MaxCheck)
	defer cancel()
	resp, err := c.send(ctx, http.MethodPost, api.PathChecks, api.CheckRequest{Names: names})
	if err != nil {
		return report, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return report, readProblem(resp)
	}
	body, err := readBounded(resp.Body)
	if err != nil {
		return report, err
	}
	return report, decode(body, &report)
}
