package tunnel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Inside answers questions on the inner side, from servers that only it can reach. It
// trusts the proxy with nothing: the only request that it sends is a GET for a
// well-formed token of a configured name to that name's server. Nothing but a key
// authorization leaves. It is safe for concurrent use.
type Inside struct {
	targets map[string]string
	client  *http.Client
}

const (
	maxAnswer    = 1024            // bytes
	fetchTimeout = 5 * time.Second // so that an answer arrives within MaxWait
)

// NewInside returns an Inside for servers by canonical name. A server is a host and a
// port, such as 10.0.0.5:80.
func NewInside(targets map[string]string) *Inside {
	return &Inside{targets, &http.Client{
		Transport: &http.Transport{ // without the environment's proxy: the servers are near
			DialContext:            (&net.Dialer{Timeout: fetchTimeout}).DialContext,
			MaxResponseHeaderBytes: 16 << 10,
			DisableKeepAlives:      true, // a CA asks a few times in months
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		Timeout:       fetchTimeout,
	}}
}

// ErrForeign means that a question is not about a configured name and a token.
var ErrForeign = errors.New("the proxy asks for something else than a token of a configured name")

// Fetch returns the key authorization that the name's server has for the token. The
// error says why there is none; its text has nothing that the server sent.
func (i *Inside) Fetch(ctx context.Context, q Question) (keyAuthorization string, err error) {
	target, ok := i.targets[q.Name]
	if !ok || !challenge.IsToken(q.Token) {
		return "", ErrForeign
	}
	u := url.URL{Scheme: "http", Host: target, Path: responder.Prefix + q.Token}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return "", err
	}
	req.Host = hostHeader(q.Name)
	req.Header.Set("User-Agent", "acmeproxy")
	resp, err := i.client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", target, withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("%s answers %d for the token, want 200", target, resp.StatusCode)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return "", fmt.Errorf("read the answer of %s: %w", target, withoutURL(err))
	}
	answer := strings.TrimRight(string(body), " \t\r\n") // RFC 8555, section 8.3
	if len(body) > maxAnswer || !IsAnswer(q.Token, answer) {
		return "", fmt.Errorf("%s answers with something else than the token's key authorization", target)
	}
	return answer, nil
}

// hostHeader returns a name as a Host header field.
func hostHeader(name string) string {
	if strings.Contains(name, ":") {
		return "[" + name + "]"
	}
	return name
}

func withoutURL(err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		return u.Err
	}
	return err
}
