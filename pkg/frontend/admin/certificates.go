package admin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// certificates lists the certificates of all clients and of the proxy's own host.
func (f *frontend) certificates(r *http.Request, _ struct{}) (CertificateList, error) {
	out := CertificateList{Certificates: []Certificate{}}
	q, err := f.certificateQuery(r.Context(), r.URL.Query())
	if err != nil {
		return out, err
	}
	rows, err := f.Store.FindManaged(r.Context(), q)
	if err != nil {
		return out, err
	}
	owners := map[string]clients.Client{}
	for _, m := range rows {
		c, _, err := f.describe(r.Context(), m, owners)
		if err != nil {
			return out, err
		}
		out.Certificates = append(out.Certificates, c)
	}
	if len(rows) == q.Limit {
		out.Next = rows[len(rows)-1].ID
	}
	return out, nil
}

func (f *frontend) certificateQuery(ctx context.Context, v url.Values) (q managed.Query, err error) {
	q = managed.Query{Name: v.Get("name"), After: v.Get("after"), Limit: pageSize}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > pageSize {
			return q, refuse(http.StatusUnprocessableEntity, "limit: must be between 1 and %d", pageSize)
		}
	}
	if s := v.Get("failing"); s != "" {
		if q.Failing, err = strconv.ParseBool(s); err != nil {
			return q, refuse(http.StatusUnprocessableEntity, "failing: must be true or false")
		}
	}
	if s := v.Get("expires_before"); s != "" {
		if q.ExpiresBefore, err = time.Parse(time.RFC3339, s); err != nil {
			return q, refuse(http.StatusUnprocessableEntity, "expires_before: must be a time such as 2026-01-31T12:00:00Z")
		}
	}
	switch name := v.Get("client"); name {
	case "":
	case OwnHost:
		q.Client = new(string)
	default:
		client, err := f.Store.ClientByName(ctx, name)
		if errors.Is(err, managed.ErrNotFound) {
			err = refuse(http.StatusNotFound, "client %q is unknown; run acmeproxy clients list to see all", name)
		}
		if err != nil {
			return q, err
		}
		q.Client = &client.ID
	}
	return q, nil
}

// describe returns a row and its owner. owners caches clients by ID.
func (f *frontend) describe(ctx context.Context, m managed.Certificate, owners map[string]clients.Client) (Certificate, clients.Client, error) {
	if m.ClientID == "" {
		c, err := f.Own(ctx, m)
		return c, clients.Client{}, err
	}
	client, known := owners[m.ClientID]
	if !known {
		var err error
		client, err = f.Store.ClientByID(ctx, m.ClientID)
		if err != nil && !errors.Is(err, managed.ErrNotFound) { // it was removed meanwhile
			return Certificate{}, client, err
		}
		owners[m.ClientID] = client
	}
	c := WireCertificate(m)
	c.Client, c.Disabled, c.Attempting = client.Name, client.Disabled, m.IsAttempted(f.Now())
	return c, client, nil
}

// WireCertificate converts a managed row to its form for the administrator.
func WireCertificate(m managed.Certificate) Certificate {
	return Certificate{
		ID: m.ID, Names: m.Names, Mode: m.Mode, Serial: m.Serial, NotAfter: m.NotAfter,
		NextAttempt: m.DueAt, Failures: m.Failures, LastError: m.LastError, LastErrorAt: m.LastErrorAt, WaitUntil: m.WaitUntil,
		SupersededAt: m.SupersededAt, RevokedAt: m.RevokedAt,
	}
}

// row is the certificate that a request is about.
type row struct {
	managed.Certificate
	client clients.Client // zero: the proxy's own host
	wire   Certificate
}

// find returns the certificate of the request's path.
func (f *frontend) find(r *http.Request) (row, error) {
	id := r.PathValue("id")
	m, err := f.Store.ManagedByID(r.Context(), id)
	if errors.Is(err, managed.ErrNotFound) {
		return row{}, unknownCertificate(id)
	}
	if err != nil {
		return row{}, err
	}
	wire, client, err := f.describe(r.Context(), m, map[string]clients.Client{})
	return row{m, client, wire}, err
}

func unknownCertificate(id string) error {
	return refuse(http.StatusNotFound, "the id %q of the certificate is unknown; run acmeproxy certs list to see all", id)
}

// now returns the present state of a row that an operation has changed.
func (f *frontend) now(ctx context.Context, m managed.Certificate) (Certificate, error) {
	c, _, err := f.describe(ctx, m, map[string]clients.Client{})
	return c, err
}

func (f *frontend) record(ctx context.Context, m row, action, outcome, detail string) {
	f.Audit.Record(ctx, trail.Entry{
		ClientID: m.ClientID, ClientName: m.client.Name, Addr: trail.Admin, Action: action, Mode: m.Mode,
		Names: m.Names, Outcome: outcome, Detail: detail,
	})
}

// certificate returns one certificate.
func (f *frontend) certificate(r *http.Request, _ struct{}) (CertificateDetails, error) {
	m, err := f.find(r)
	if err != nil {
		return CertificateDetails{}, err
	}
	d := CertificateDetails{
		Certificate: m.wire, KeyType: m.KeyType, Profile: m.Profile, CA: m.CA, NotBefore: m.NotBefore,
		RenewFrom: m.ARIStart, RenewUntil: m.ARIEnd, RenewalInfoAt: m.ARICheckAt, CreatedAt: m.CreatedAt,
	}
	if len(m.CSR) > 0 {
		d.KeyType = ""
	}
	if m.Serial != "" {
		d.ReplaceableAt, err = f.ReplaceableAt(r.Context(), m.ID)
	}
	return d, err
}

// renewCertificate makes a certificate due.
func (f *frontend) renewCertificate(r *http.Request, _ struct{}) (Certificate, error) {
	m, err := f.find(r)
	if err != nil {
		return Certificate{}, err
	}
	if err := renewable(m); err != nil {
		return Certificate{}, err
	}
	row, err := f.Renew(r.Context(), m.ID)
	var later *managed.NotNow
	switch {
	case errors.As(err, &later):
		f.record(r.Context(), m, "certificate renew", trail.Refused, later.Error())
		return Certificate{}, refuse(http.StatusTooManyRequests, "certificate %s is not renewed now: %w", m.ID, later)
	case errors.Is(err, managed.ErrNotFound):
		return Certificate{}, unknownCertificate(m.ID)
	case err != nil:
		return Certificate{}, err
	}
	f.record(r.Context(), m, "certificate renew", trail.Done, "certificate "+m.ID)
	return f.now(r.Context(), row)
}

// renewable returns why a certificate is never renewed, or nil.
func renewable(m row) error {
	switch {
	case !m.SupersededAt.IsZero():
		return refuse(http.StatusConflict, "certificate %s is not renewed any more: a name passed to another client; ask for the certificate again on its host", m.ID)
	case m.wire.NotConfigured:
		return refuse(http.StatusConflict, "certificate %s is not configured any more; add its names to domain of acmeproxy serve again", m.ID)
	case m.DueAt.IsZero() && !m.RevokedAt.IsZero() && len(m.CSR) > 0:
		return refuse(http.StatusConflict, "the key of certificate %s is compromised, and its client has it; the client must ask with the CSR of another key", m.ID)
	}
	return nil
}

// revokeCertificate revokes a certificate, and replaces or deletes it.
func (f *frontend) revokeCertificate(r *http.Request, req RevokeCertificate) (Certificate, error) {
	reason, err := cert.ParseReason(req.Reason)
	if err != nil {
		return Certificate{}, refuse(http.StatusUnprocessableEntity, "reason: %w", err)
	}
	m, err := f.find(r)
	if err != nil {
		return Certificate{}, err
	}
	if req.Forget {
		if err := forgettable(m); err != nil {
			return Certificate{}, err
		}
	}
	if !req.Forget && !m.RevokedAt.IsZero() {
		return Certificate{}, f.revokedAlready(r.Context(), m)
	}
	row, err := f.Revoke(r.Context(), m.client, m.Certificate, reason, req.Forget)
	switch {
	case errors.Is(err, managed.ErrNoCertificate):
		return Certificate{}, refuse(http.StatusConflict, "certificate %s: nothing to revoke: it was not obtained yet, or has expired", m.ID)
	case errors.Is(err, managed.ErrStale):
		return Certificate{}, refuse(http.StatusConflict, "certificate %s was renewed meanwhile; run the command again to revoke the new one", m.ID)
	case errors.Is(err, managed.ErrNotFound):
		return Certificate{}, unknownCertificate(m.ID)
	case err != nil:
		return Certificate{}, err
	}
	if req.Forget {
		return m.wire, nil
	}
	return f.now(r.Context(), row)
}

// revokedAlready returns when a certificate is replaced that is revoked already.
func (f *frontend) revokedAlready(ctx context.Context, m row) error {
	at, err := f.ReplaceableAt(ctx, m.ID)
	if err != nil {
		return err
	}
	if at.Before(m.DueAt) {
		at = m.DueAt
	}
	switch {
	case m.DueAt.IsZero():
		return refuse(http.StatusConflict, "certificate %s is revoked already, and not replaced", m.ID)
	case !at.After(f.Now()):
		return refuse(http.StatusConflict, "certificate %s is revoked already; another one is being obtained", m.ID)
	}
	return refuse(http.StatusConflict, "certificate %s is revoked already; another one is obtained at %s", m.ID, printable.Time(at))
}

// deployCertificate makes the files and the hook of a certificate due.
func (f *frontend) deployCertificate(r *http.Request, _ struct{}) (Certificate, error) {
	m, err := f.find(r)
	if err != nil {
		return Certificate{}, err
	}
	if m.ClientID != "" {
		return Certificate{}, refuse(http.StatusConflict, "certificate %s belongs to client %q, whose host runs its hook; run acmeproxy remote get there", m.ID, m.client.Name)
	}
	err = f.Deploy(r.Context(), m.Certificate)
	if errors.Is(err, managed.ErrNoCertificate) {
		return Certificate{}, refuse(http.StatusConflict, "certificate %s: nothing to deploy: it was not obtained yet, or is revoked", m.ID)
	}
	if err != nil {
		return Certificate{}, err
	}
	f.record(r.Context(), m, "certificate hook", trail.Done, "certificate "+m.ID)
	return f.now(r.Context(), m.Certificate)
}

// forgettable returns why a certificate cannot be deleted, or nil.
func forgettable(m row) error {
	if m.ClientID == "" && !m.wire.NotConfigured {
		return refuse(http.StatusConflict, "certificate %s belongs to this host and would be requested again; remove its names from --domain or --hostname of acmeproxy serve instead", m.ID)
	}
	return nil
}

// forgetCertificate deletes a row, so that other clients can request its names.
func (f *frontend) forgetCertificate(r *http.Request, _ struct{}) (Certificate, error) {
	m, err := f.find(r)
	if err == nil {
		err = forgettable(m)
	}
	if err == nil {
		err = f.Store.DeleteManaged(r.Context(), m.ID)
	}
	if errors.Is(err, managed.ErrNotFound) {
		err = unknownCertificate(m.ID)
	}
	if err != nil {
		return Certificate{}, err
	}
	f.Forgotten(m.ID)
	f.record(r.Context(), m, "certificate forget", trail.Done, fmt.Sprintf("certificate %s; its names can be asked for by other clients", m.ID))
	return m.wire, nil
}
