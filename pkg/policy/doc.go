// Package policy decides whether a client may make a request. It is pure: it uses
// no clock, no store and no network, so equal requests get equal answers.
//
// It must never combine two grants to allow one request, let any pattern but a
// wildcard pattern match a wildcard, or guess the meaning of an invalid grant. It
// denies every request that no grant allows explicitly, with the reason and the
// remedy.
//
//	_, err := policy.Decide(id, policy.Request{Mode: clients.ModeAgent, Names: names, KeyType: cert.EC256})
//	var denied *policy.Denied
//	if errors.As(err, &denied) {
//		// answer 403 with denied.Field and denied.Reason
//	}
package policy
