// Package enroll implements the use cases about clients: add one, issue a token,
// replace its credentials, apply a set of clients, enrol a host with a token,
// replace a host's key, lock a client out.
//
// A frontend decodes a request, calls one method of [Registrar] and encodes the
// result. The registrar checks, stores and writes the audit trail. It knows no
// wire format and no command line. It never does costly work for an unknown caller,
// and it never stores a secret, only its verifier.
//
// Errors are *[InvalidError], *[ExistsError], *[KeyError], the Err… values of this
// package, *[cert.FieldError], *[policy.Denied], *[audit.TooSoon], *[auth.Error],
// and those of package managed. Any other error is a fault of the store.
//
//	r := enroll.New(enroll.Config{Store: st, Audit: log, URL: "https://acmeproxy.example.com", Pin: pin})
//	issued, err := r.Add(ctx, clients.Client{Name: "web1", Grants: grants}, enroll.SecretSpec{})
package enroll
