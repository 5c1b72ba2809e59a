package admin

import (
	"context"
	"net/http"
	"time"
)

// Reloaded reports a reload.
type Reloaded struct {
	Changed []string `json:"changed"`        // keys of the settings that have changed
	File    string   `json:"file,omitempty"` // configuration file that was read
}

// reloadTimeout limits a reload, which may wait for an earlier one and for the database.
const reloadTimeout = time.Minute

// Reload makes the proxy read its settings again. A refusal has one fault a line, and
// the earlier settings stay in force. Without an answer, the reload may have happened.
func (a *Admin) Reload(ctx context.Context) (r Reloaded, err error) {
	slow := *a
	slow.http = &http.Client{Transport: a.http.Transport, Timeout: reloadTimeout}
	return r, slow.call(ctx, http.MethodPost, "/reload", nil, &r)
}

func (f *frontend) reload(r *http.Request, _ struct{}) (Reloaded, error) {
	changed, err := f.Reload(r.Context())
	if err != nil {
		return Reloaded{}, refuse(http.StatusConflict, "%w", err)
	}
	return Reloaded{Changed: changed, File: f.File()}, nil
}
