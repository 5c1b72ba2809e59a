package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// CertificateList is one page of managed certificates, ordered by ID.
type CertificateList struct {
	Certificates []Certificate `json:"certificates"`
	Next         string        `json:"next,omitempty"` // the After of the next page
}

// Certificates returns all managed certificates of one client. With an empty name, it
// returns those of all clients and of the proxy's own host.
func (a *Admin) Certificates(ctx context.Context, client string) ([]Certificate, error) {
	all := []Certificate{}
	for after := ""; ; {
		var page CertificateList
		query := url.Values{"client": {client}, "after": {after}}
		if err := a.call(ctx, http.MethodGet, "/certificates?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Certificates...)
		if after = page.Next; after == "" {
			return all, nil
		}
	}
}

// ForgetCertificate deletes a managed certificate and releases its names.
func (a *Admin) ForgetCertificate(ctx context.Context, id string) (c Certificate, err error) {
	return c, a.call(ctx, http.MethodDelete, "/certificates/"+url.PathEscape(id), nil, &c)
}

// certificates lists the certificates of one client, or of all.
func (f *frontend) certificates(r *http.Request, _ struct{}) (CertificateList, error) {
	out := CertificateList{Certificates: []Certificate{}}
	name, after := r.URL.Query().Get("client"), r.URL.Query().Get("after")
	var rows []managed.Certificate
	var err error
	if name == "" {
		rows, err = f.Store.AllManaged(r.Context(), after, pageSize)
	} else {
		var client clients.Client
		if client, err = f.Store.ClientByName(r.Context(), name); errors.Is(err, managed.ErrNotFound) {
			err = refuse(http.StatusNotFound, "client %q is unknown; run acmeproxy clients list to see all", name)
		}
		if err == nil {
			rows, err = f.Store.ListManaged(r.Context(), client.ID, "", after, pageSize)
		}
	}
	if err != nil {
		return out, err
	}
	owners := map[string]string{}
	for _, m := range rows {
		c, err := f.ownedCertificate(r.Context(), m, owners)
		if err != nil {
			return out, err
		}
		out.Certificates = append(out.Certificates, c)
	}
	if len(rows) == pageSize {
		out.Next = rows[len(rows)-1].ID
	}
	return out, nil
}

// ownedCertificate returns a certificate with the name of its client. owners caches
// names by client ID.
func (f *frontend) ownedCertificate(ctx context.Context, m managed.Certificate, owners map[string]string) (Certificate, error) {
	c := WireCertificate(m)
	if m.ClientID == "" {
		return c, nil
	}
	name, known := owners[m.ClientID]
	if !known {
		client, err := f.Store.ClientByID(ctx, m.ClientID)
		if err != nil && !errors.Is(err, managed.ErrNotFound) { // it was removed meanwhile
			return c, err
		}
		name = client.Name
		owners[m.ClientID] = name
	}
	c.Client = name
	return c, nil
}

// forgetCertificate deletes a row, so that other clients can request its names.
func (f *frontend) forgetCertificate(r *http.Request, _ struct{}) (Certificate, error) {
	id := r.PathValue("id")
	m, err := f.Store.ManagedByID(r.Context(), id)
	if err == nil && m.ClientID == "" && !m.DueAt.IsZero() {
		return Certificate{}, refuse(http.StatusConflict, "certificate %s belongs to this host and would be requested again; remove its names from --domain or --hostname of acmeproxy serve instead", id)
	}
	var out Certificate
	if err == nil {
		out, err = f.ownedCertificate(r.Context(), m, map[string]string{})
	}
	if err == nil {
		err = f.Store.DeleteManaged(r.Context(), id)
	}
	if errors.Is(err, managed.ErrNotFound) {
		return Certificate{}, refuse(http.StatusNotFound, "the id %q of the certificate is unknown; run acmeproxy certs list to see all", id)
	}
	if err != nil {
		return Certificate{}, err
	}
	f.Forgotten(id)
	f.Audit.Record(r.Context(), trail.Entry{
		ClientID: m.ClientID, ClientName: out.Client, Addr: trail.Admin, Action: "certificate forget", Mode: m.Mode,
		Names: m.Names, Outcome: trail.Done, Detail: fmt.Sprintf("certificate %s; its names can be asked for by other clients", id),
	})
	return out, nil
}
