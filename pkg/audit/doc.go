// Package audit records each request with its client, address and outcome. One call
// authorises and records, so that neither step is forgotten.
//
// It must never allow a request that it could not record, or let a flood of refusals
// fill the disk. It must never record an allowed gateway request; it only counts it
// against the client's daily quota. For a refused gateway request, it records only
// the names that no grant covers.
//
//	log := audit.New(audit.Config{Store: st, Logger: logger})
//	ask := audit.Ask{By: id, Action: audit.ActionRequest, Request: request, Costs: true}
//	if err := log.Authorize(ctx, ask); err != nil {
//		return err // *policy.Denied, *audit.QuotaExceeded, or a fault of the store
//	}
package audit
