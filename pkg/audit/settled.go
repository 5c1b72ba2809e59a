package audit

import (
	"context"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// Settled records the outcome of an attempt of the proxy to obtain a managed
// certificate.
func (l *Log) Settled(ctx context.Context, o managed.Outcome) {
	e := trail.Entry{
		ClientID: o.ClientID, ClientName: o.ClientName, Action: "certificate", Mode: o.Mode, Names: o.Names,
		Outcome: trail.Done, Detail: "serial " + o.Serial,
	}
	if o.Err != nil {
		e.Outcome, e.Detail = trail.Failed, o.Err.Error()
	}
	l.Record(ctx, e)
}
