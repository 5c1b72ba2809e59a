// Package acme defines the terms of RFC 8555 that all of acmeproxy shares: problems,
// kinds of failure, stages of an issuance, challenge types and the certificate ids
// of ARI.
//
// It connects to no CA and imports no ACME library.
//
//	var e *acme.Error
//	if errors.As(err, &e) && e.Kind == acme.RateLimited {
//		retryAt = e.RetryAt
//	}
package acme
