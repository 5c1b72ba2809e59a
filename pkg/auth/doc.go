// Package auth authenticates callers by their credential alone: the key that a client
// proved in the TLS handshake, or a bearer token. It also creates and parses the
// tokens that administrators copy.
//
// It must never decide what a caller may do (package policy does), trust a header
// about the caller's address, or put a token or the reason of a refusal into an
// answer. The caller gets the same text for every refusal.
//
//	a := auth.New(auth.Config{Store: st})
//	id, err := a.Authenticate(r)
//	var refused *auth.Error
//	if errors.As(err, &refused) {
//		// answer 401 with refused.Error(), audit refused.Reason
//	}
package auth
