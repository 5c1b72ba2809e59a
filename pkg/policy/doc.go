// Package policy decides what a client may ask for. It is pure: no clock, no
// store, no network, so the same question always has the same answer.
//
// It must never join two grants to allow one request, take a wildcard for
// anything but a wildcard, or guess when a grant cannot be read: what is not
// plainly granted is refused, with the reason and the remedy.
//
//	_, err := policy.Decide(id, policy.Request{Mode: clients.ModeAgent, Names: names, KeyType: cert.EC256})
//	var denied *policy.Denied
//	if errors.As(err, &denied) {
//		// answer 403 with denied.Field and denied.Reason
//	}
package policy
