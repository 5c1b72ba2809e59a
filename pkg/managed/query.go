package managed

import "time"

// Query selects managed certificates. A zero field selects all.
type Query struct {
	Client        *string   // id of the owner; empty: the proxy itself
	Name          string    // one of their names, or their stored name
	Failing       bool      // the last attempt, or the last deployment, failed
	ExpiresBefore time.Time // there is a certificate, and it ends before that time
	After         string    // id of the previous page's last row
	Limit         int       // of rows in a page; 0: 100
}
