package admin

import (
	"fmt"
	"net/http"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
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
		out.Credentials = append(out.Credentials, wireCredential(c))
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

// warnings returns a warning for each recipient that a new client must not have.
func warnings(recipients []string) (out []string) {
	for i, r := range recipients {
		if bits := seal.RSABits(r); bits > seal.MaxRSABits {
			out = append(out, fmt.Sprintf("recipient %d: its RSA key of %d bits makes every renewal slow, and is refused for new ones; replace it with ssh-ed25519, age1… or RSA of at most %d bits", i+1, bits, seal.MaxRSABits))
		}
	}
	return out
}

// add adds a client.
func (f *frontend) add(r *http.Request, req NewClient) (NewClientAnswer, error) {
	client := clients.Client{Name: req.Name, Recipients: req.Recipients, Grants: req.Grants}
	issued, err := f.Registrar.Add(r.Context(), client, Secret{Bearer: req.Bearer, URL: req.URL, TokenLife: req.TokenLife, None: req.NoSecret}.spec())
	return wireIssued(issued, err)
}

// disable returns the handler that disables, or enables, a client.
func (f *frontend) disable(disabled bool) func(*http.Request, struct{}) (Client, error) {
	return func(r *http.Request, _ struct{}) (Client, error) {
		c, err := f.Registrar.SetDisabled(r.Context(), r.PathValue("name"), disabled)
		return wireClient(c), err
	}
}

// remove removes a client.
func (f *frontend) remove(r *http.Request, _ struct{}) (Client, error) {
	c, err := f.Registrar.Remove(r.Context(), r.PathValue("name"))
	return wireClient(c), err
}
