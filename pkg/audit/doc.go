// Package audit writes down who asked for what, from where, and what came of
// it. Authorising and recording are one call, so that neither is forgotten.
//
// It must never let a request pass that it could not record, let a flood of
// refusals fill the disk, or write down a gateway request that was allowed: of
// those only the client's daily quota counts, if it has one. Of a gateway
// request that was refused it keeps the names that no grant covers, and no
// other.
//
//	log := audit.New(audit.Config{Store: st, Logger: logger})
//	if err := log.Authorize(ctx, id, request); err != nil {
//		return err // *policy.Denied, *audit.QuotaExceeded, or a fault of the store
//	}
package audit
