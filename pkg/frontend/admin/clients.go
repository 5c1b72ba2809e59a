package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

const pageSize = 200

func (f *frontend) list(r *http.Request, _ struct{}) (ClientList, error) {
	rows, err := f.Store.Clients(r.Context(), r.URL.Query().Get("after"), pageSize)
	if err != nil {
		return ClientList{}, err
	}
	out := ClientList{Clients: []Client{}}
	for _, c := range rows {
		out.Clients = append(out.Clients, wireClient(c))
	}
	if len(rows) == pageSize {
		out.Next = rows[len(rows)-1].Name
	}
	return out, nil
}

func wireClient(c clients.Client) Client {
	return Client{
		Name: c.Name, Disabled: c.Disabled, CreatedAt: c.CreatedAt,
		Recipients: append([]string{}, c.Recipients...), Grants: append([]clients.Grant{}, c.Grants...),
	}
}

func (f *frontend) show(r *http.Request, _ struct{}) (Client, error) {
	row, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
	if err != nil {
		return Client{}, err
	}
	out := wireClient(row)
	out.Warnings = warnings(row.Recipients)
	credentials, err := f.Store.Credentials(r.Context(), row.ID)
	if err != nil {
		return Client{}, err
	}
	for _, c := range credentials {
		out.Credentials = append(out.Credentials, Credential{Kind: string(c.Kind), CreatedAt: c.CreatedAt, ExpiresAt: c.ExpiresAt})
	}
	managed, err := f.Store.ListManaged(r.Context(), row.ID, "", "", pageSize)
	if err != nil {
		return Client{}, err
	}
	for _, m := range managed {
		out.Certificates = append(out.Certificates, WireCertificate(m))
	}
	return out, nil
}

// warnings says which recipients are kept although they are not safe to have.
func warnings(recipients []string) (out []string) {
	for i, r := range recipients {
		if bits := seal.RSABits(r); bits > seal.MaxRSABits {
			out = append(out, fmt.Sprintf("recipient %d: its RSA key of %d bits makes every renewal slow, and is refused for new ones; replace it by ssh-ed25519, age1… or RSA of at most %d bits", i+1, bits, seal.MaxRSABits))
		}
	}
	return out
}

// WireCertificate is a managed row as the administrator sees it.
func WireCertificate(m managed.Certificate) Certificate {
	return Certificate{
		ID: m.ID, Names: m.Names, Mode: m.Mode, Serial: m.Serial, NotAfter: m.NotAfter,
		NextAttempt: m.DueAt, Failures: m.Failures, LastError: m.LastError,
		SupersededAt: m.SupersededAt, RevokedAt: m.RevokedAt,
	}
}

// add makes a client. Every fault of the request is reported together.
func (f *frontend) add(r *http.Request, req NewClient) (NewClientAnswer, error) {
	client, faults := parseClient(req)
	answer, credential, err := f.credential(Secret{req.Bearer, req.URL, req.TokenLife})
	if err := errors.Join(faults, err); err != nil {
		return NewClientAnswer{}, &refusal{http.StatusUnprocessableEntity, err}
	}
	row, err := f.Store.CreateClient(r.Context(), client, credential)
	if errors.Is(err, managed.ErrConflict) {
		return NewClientAnswer{}, refuse(http.StatusConflict, "there is a client %q already; choose another name; clients apply changes what it may have, clients token makes a token for it", req.Name)
	}
	if err != nil {
		return NewClientAnswer{}, err
	}
	f.record(r.Context(), "client add", row)
	answer.Client = wireClient(row)
	return answer, nil
}

func parseClient(req NewClient) (clients.Client, error) {
	client := clients.Client{Name: req.Name, Recipients: req.Recipients}
	var faults []error
	if err := CheckName(req.Name); err != nil {
		faults = append(faults, err)
	}
	if err := seal.CheckNew(req.Recipients, nil); err != nil {
		faults = append(faults, err)
	}
	if len(req.Grants) == 0 {
		faults = append(faults, errors.New("allow: missing; say what the client may ask for, such as --allow web1.example.com"))
	}
	for _, g := range req.Grants {
		if err := policy.ValidateGrant(g); err != nil {
			faults = append(faults, err)
		}
		client.Grants = append(client.Grants, g)
	}
	return client, errors.Join(faults...)
}

// CheckName keeps names printable and fit for paths and logs.
func CheckName(name string) error {
	ok := name != "" && len(name) <= 100 && name[0] != '-' && name[0] != '.'
	for _, c := range []byte(name) {
		ok = ok && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_' || c == '.')
	}
	if !ok {
		return fmt.Errorf("name: %q cannot name a client; use letters, digits, - _ . and at most 100 of them", name)
	}
	return nil
}

func (f *frontend) disable(disabled bool) func(*http.Request, struct{}) (Client, error) {
	action := "client enable"
	if disabled {
		action = "client disable"
	}
	return func(r *http.Request, _ struct{}) (Client, error) {
		row, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
		if err != nil {
			return Client{}, err
		}
		if err := f.Store.SetClientDisabled(r.Context(), row.ID, disabled); err != nil {
			return Client{}, err
		}
		f.record(r.Context(), action, row)
		row.Disabled = disabled
		return wireClient(row), nil
	}
}

func (f *frontend) remove(r *http.Request, _ struct{}) (Client, error) {
	row, err := f.Store.ClientByName(r.Context(), r.PathValue("name"))
	if err != nil {
		return Client{}, err
	}
	if err := f.Store.RemoveClient(r.Context(), row.ID); err != nil {
		return Client{}, err
	}
	f.record(r.Context(), "client remove", row)
	return wireClient(row), nil
}

func (f *frontend) record(ctx context.Context, action string, c clients.Client) {
	f.Audit.Record(ctx, trail.Entry{ClientID: c.ID, ClientName: c.Name, Addr: trail.Admin, Action: action, Outcome: trail.Done})
}
