package admin

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CertificateQuery selects certificates. A zero field selects all.
type CertificateQuery struct {
	Client        string // name of a client, or OwnHost
	Name          string // one of their names, or the stored name of one of the proxy's own host
	Failing       bool   // the last attempt or deployment failed, or it is revoked and not replaced yet
	ExpiresBefore time.Time
}

// OwnHost is the Client of a query for the certificates of the proxy's own host. No
// client can have this name.
const OwnHost = "-"

// Certificates returns the managed certificates that q selects, ordered by ID.
func (a *Admin) Certificates(ctx context.Context, q CertificateQuery) ([]Certificate, error) {
	all := []Certificate{}
	for after := ""; ; {
		page, err := a.CertificatePage(ctx, q, after, 0)
		if err != nil {
			return nil, err
		}
		all = append(all, page.Certificates...)
		if page.Next == "" {
			return all, nil
		}
		if page.Next == after || len(page.Certificates) == 0 {
			return nil, errEndless
		}
		after = page.Next
	}
}

// CertificatePage returns up to limit (0: the maximum) of the certificates that q
// selects, which follow the ID after.
func (a *Admin) CertificatePage(ctx context.Context, q CertificateQuery, after string, limit int) (page CertificateList, err error) {
	query := url.Values{"client": {q.Client}, "after": {after}}
	if q.Name != "" {
		query.Set("name", q.Name)
	}
	if q.Failing {
		query.Set("failing", "true")
	}
	if !q.ExpiresBefore.IsZero() {
		query.Set("expires_before", q.ExpiresBefore.UTC().Format(time.RFC3339))
	}
	if limit > 0 {
		query.Set("limit", strconv.Itoa(limit))
	}
	return page, a.selected(ctx, "/certificates", query, &page)
}

// Certificate returns one certificate.
func (a *Admin) Certificate(ctx context.Context, id string) (c CertificateDetails, err error) {
	return c, a.call(ctx, http.MethodGet, certificatePath(id), nil, &c)
}

// RenewCertificate makes a certificate due now, at any age. It returns its state before
// the attempt has ended.
func (a *Admin) RenewCertificate(ctx context.Context, id string) (c Certificate, err error) {
	return c, a.call(ctx, http.MethodPost, certificatePath(id)+"/renew", nil, &c)
}

// RevokeCertificate revokes a certificate and obtains another, or deletes it.
func (a *Admin) RevokeCertificate(ctx context.Context, id string, req RevokeCertificate) (c Certificate, err error) {
	return c, a.call(ctx, http.MethodPost, certificatePath(id)+"/revoke", req, &c)
}

// DeployCertificate makes the files and the hook of a certificate of the proxy's own host
// due now. It returns its state before that has ended.
func (a *Admin) DeployCertificate(ctx context.Context, id string) (c Certificate, err error) {
	return c, a.call(ctx, http.MethodPost, certificatePath(id)+"/hook", nil, &c)
}

// ForgetCertificate deletes a managed certificate and releases its names.
func (a *Admin) ForgetCertificate(ctx context.Context, id string) (c Certificate, err error) {
	return c, a.call(ctx, http.MethodDelete, certificatePath(id), nil, &c)
}

func certificatePath(id string) string { return "/certificates/" + url.PathEscape(id) }
