// Package auth tells who is calling, from the credential alone: the key that a
// client proved in the TLS handshake, or a bearer token. It also makes and
// reads the tokens that people copy.
//
// It must never decide what a caller may do (package policy does), trust a
// header about the caller's address, or put a token or a precise reason for a
// refusal into an answer: every refusal reads the same to the outside.
//
//	a := auth.New(auth.Config{Store: st})
//	id, err := a.Authenticate(r)
//	var refused *auth.Error
//	if errors.As(err, &refused) {
//		// answer 401 with refused.Error(), audit refused.Reason
//	}
package auth
