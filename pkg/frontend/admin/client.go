package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// Admin calls a running proxy over its socket. Refusals are *api.Problem.
type Admin struct {
	path string
	http *http.Client
}

// Dial returns an Admin for the socket at path. It connects at the first call.
func Dial(path string) *Admin {
	transport := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
	}
	return &Admin{path: path, http: &http.Client{Transport: transport, Timeout: 30 * time.Second}}
}

// Status returns the proxy's state.
func (a *Admin) Status(ctx context.Context) (s Status, err error) {
	return s, a.call(ctx, http.MethodGet, "/status", nil, &s)
}

// AddClient adds a client and returns the only copy of its secret.
func (a *Admin) AddClient(ctx context.Context, req NewClient) (answer NewClientAnswer, err error) {
	return answer, a.call(ctx, http.MethodPost, "/clients", req, &answer)
}

// Clients returns all clients, by name.
func (a *Admin) Clients(ctx context.Context) ([]Client, error) {
	all := []Client{}
	for after := ""; ; {
		var page ClientList
		if err := a.call(ctx, http.MethodGet, "/clients?after="+url.QueryEscape(after), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Clients...)
		if page.Next == "" {
			return all, nil
		}
		if page.Next == after || len(page.Clients) == 0 {
			return nil, errEndless
		}
		after = page.Next
	}
}

// Client returns one client with its credentials and certificates.
func (a *Admin) Client(ctx context.Context, name string) (c Client, err error) {
	return c, a.call(ctx, http.MethodGet, clientPath(name), nil, &c)
}

// SetDisabled disables or enables a client.
func (a *Admin) SetDisabled(ctx context.Context, name string, disabled bool) (c Client, err error) {
	action := "/enable"
	if disabled {
		action = "/disable"
	}
	return c, a.call(ctx, http.MethodPost, clientPath(name)+action, nil, &c)
}

// RemoveClient removes a client with its credentials, certificates and bundles.
func (a *Admin) RemoveClient(ctx context.Context, name string) (c Client, err error) {
	return c, a.call(ctx, http.MethodDelete, clientPath(name), nil, &c)
}

// Apply changes all clients to match the request, or reports the changes with DryRun.
// Without an answer, the changes may or may not have been made. It is safe to retry.
func (a *Admin) Apply(ctx context.Context, req ApplyRequest) (answer ApplyAnswer, err error) {
	slow := *a // many clients take longer
	slow.http = &http.Client{Transport: a.http.Transport, Timeout: 2 * a.http.Timeout}
	return answer, slow.call(ctx, http.MethodPut, "/clients", req, &answer)
}

// RevokeClient disables a client and revokes all its current managed certificates. It
// calls seen for each of them. If the CA fails, the remaining ones are not tried.
func (a *Admin) RevokeClient(ctx context.Context, name, reason string, seen func(Revoked)) error {
	for after := ""; ; {
		var page RevokedList
		req := RevokeClient{Reason: reason, After: after}
		if err := a.call(ctx, http.MethodPost, clientPath(name)+"/revoke", req, &page); err != nil {
			return err
		}
		for _, r := range page.Revoked {
			seen(r)
		}
		if page.Next == "" {
			return nil
		}
		if page.Next == after {
			return errEndless
		}
		after = page.Next
	}
}

// AuditQuery selects entries of the audit trail. A zero field selects all.
type AuditQuery struct {
	Client  string
	Outcome string
	Name    string // canonical
	Since   time.Time
	Before  int64
	Limit   int
}

// Audit returns one page of the audit trail, newest first.
func (a *Admin) Audit(ctx context.Context, q AuditQuery) (page AuditList, err error) {
	v := url.Values{"client": {q.Client}, "outcome": {q.Outcome}}
	if q.Name != "" {
		v.Set("name", q.Name)
	}
	if !q.Since.IsZero() {
		v.Set("since", q.Since.UTC().Format(time.RFC3339Nano))
	}
	if q.Before > 0 {
		v.Set("before", strconv.FormatInt(q.Before, 10))
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return page, a.selected(ctx, "/audit", v, &page)
}

// CA returns the proxy's data about its CA.
func (a *Admin) CA(ctx context.Context) (ca CA, err error) {
	return ca, a.call(ctx, http.MethodGet, "/ca", nil, &ca)
}

// clientPath returns the path of a client. A server would read the names . and .. as
// parts of a path.
func clientPath(name string) string {
	if name == "." || name == ".." {
		return "/clients/" + strings.ReplaceAll(name, ".", "%2E")
	}
	return "/clients/" + url.PathEscape(name)
}

// AddProbe makes port 80 answer a random token for a host.
func (a *Admin) AddProbe(ctx context.Context, req NewProbe) (p Probe, err error) {
	return p, a.call(ctx, http.MethodPost, "/probes", req, &p)
}

// RemoveProbe removes the answer to a probe.
func (a *Admin) RemoveProbe(ctx context.Context, token string) error {
	return a.call(ctx, http.MethodDelete, "/probes/"+url.PathEscape(token), nil, &struct{}{})
}

// errOlder reports an answer that is not a problem document, from a mux without the
// path.
var errOlder = errors.New("the running acmeproxy serve is older than this program and does not know this command; restart acmeproxy serve with the program of this version")

// errLong reports a path or a query that no server reads.
var errLong = errors.New("a name in the request is too long; use a shorter one")

var errEndless = errors.New("the proxy's list does not end; restart the proxy with the program of this version")

// maxAnswer is the maximum size of one answer, in bytes.
const maxAnswer = 16 * api.MaxAnswer

func (a *Admin) call(ctx context.Context, method, path string, in, out any) error {
	_, err := a.exchange(ctx, method, path, in, out)
	return err
}

// exchange sends a request and decodes its answer into out.
func (a *Admin) exchange(ctx context.Context, method, path string, in, out any) (http.Header, error) {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://admin"+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, a.unreachable(err)
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err == nil && len(answer) > maxAnswer {
		err = fmt.Errorf("it is larger than %d bytes", maxAnswer)
	}
	if err != nil {
		return nil, fmt.Errorf("read the proxy's answer: %w", err)
	}
	if resp.StatusCode >= 400 {
		p := &api.Problem{Status: resp.StatusCode, Title: resp.Status}
		if _, err := api.Unmarshal(answer, api.MaxValues, p); err != nil {
			if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
				return nil, errOlder
			}
			if resp.StatusCode == http.StatusRequestHeaderFieldsTooLarge {
				return nil, errLong
			}
			return nil, fmt.Errorf("the proxy answered %s", resp.Status)
		}
		return nil, p
	}
	if _, err := api.Unmarshal(answer, api.MaxAdminValues, out); err != nil {
		return nil, fmt.Errorf("read the proxy's answer: %w", err)
	}
	return resp.Header, nil
}

// unreachable returns an error with the remedy for a socket that does not answer.
func (a *Admin) unreachable(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("may not use the admin socket %s; run this as root or as the proxy's user", a.path)
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		remedy := "start acmeproxy serve, or set its --data-dir"
		if os.Geteuid() != 0 { // root has another default folder
			remedy += "; if it runs, run this as root or as the proxy's user"
		}
		return fmt.Errorf("no proxy answers at %s; %s", a.path, remedy)
	}
	return fmt.Errorf("ask the proxy at %s: %w", a.path, err)
}
