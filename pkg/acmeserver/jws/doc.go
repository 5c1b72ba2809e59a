// Package jws reads the signed requests of ACME clients (RFC 8555, section 6.2): the JWS
// itself, the client's public key, the external account binding inside of newAccount,
// and the inner JWS of keyChange.
//
// It is strict, because whatever two parsers read differently is a hole. It accepts the
// flattened JSON serialization only, with exactly the members protected, payload and
// signature, no member twice, and base64url without padding. It never accepts a private
// key, an algorithm that does not suit the key, or a header that is not signed.
//
// All errors for a client are *acme.Problem. Their details name the field and the fix.
//
//	m, err := jws.Parse(body, jws.ByKey|jws.ByAccount)
//	if err != nil {
//		return err
//	}
//	key := m.Header.Key
//	if key == nil {
//		key = keyOfAccount(m.Header.Kid)
//	}
//	payload, err := m.Verify(key)
//
// The caller must compare the URL with that of the request, and use up the nonce.
package jws
