package admin

import (
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

func (f *frontend) audit(r *http.Request, _ struct{}) (AuditList, error) {
	q, err := parseAuditQuery(r.URL.Query())
	if err != nil {
		return AuditList{}, err
	}
	rows, err := f.Store.Audit(r.Context(), q)
	if err != nil {
		return AuditList{}, err
	}
	out := AuditList{Entries: []AuditEntry{}}
	for _, e := range rows {
		out.Entries = append(out.Entries, AuditEntry{
			ID: e.ID, At: e.At, Client: e.ClientName, Addr: e.Addr, Action: e.Action,
			Mode: e.Mode, Names: e.Names, Outcome: e.Outcome, Detail: e.Detail,
		})
	}
	if len(rows) == q.Limit {
		out.Before = rows[len(rows)-1].ID
	}
	return out, nil
}

func parseAuditQuery(v url.Values) (trail.Query, error) {
	q := trail.Query{Client: v.Get("client"), Outcome: v.Get("outcome"), Name: v.Get("name"), Limit: pageSize}
	var err error
	if s := v.Get("since"); s != "" {
		if q.Since, err = time.Parse(time.RFC3339, s); err != nil {
			return q, refuse(http.StatusUnprocessableEntity, "since: must be a time such as 2026-01-31T12:00:00Z")
		}
	}
	if s := v.Get("limit"); s != "" {
		if q.Limit, err = strconv.Atoi(s); err != nil || q.Limit < 1 || q.Limit > pageSize {
			return q, refuse(http.StatusUnprocessableEntity, "limit: must be between 1 and %d", pageSize)
		}
	}
	if s := v.Get("before"); s != "" {
		if q.Before, err = strconv.ParseInt(s, 10, 64); err != nil {
			return q, refuse(http.StatusUnprocessableEntity, "before: must be the id of an entry")
		}
	}
	return q, nil
}
