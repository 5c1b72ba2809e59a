// Package localca is a small CA with its keys on disk, for a private network or a test.
// It is an issuer of package acmeserver.
//
//	ca, err := localca.Open(localca.Config{
//		Dir: "/var/lib/ca",
//		URL: "http://ca.example.com/ca", // of its CRLs
//	})
//	if err != nil {
//		return err
//	}
//	defer ca.Close()
//	server, err := acmeserver.New(acmeserver.Config{Issuer: ca, …})
//	mux.Handle("/ca/", ca.Handler())
//
// Open creates a root and an issuing certificate that the root signs. Each is a key of
// type P-256 in a private file. Rotate replaces both while the CA runs. The previous root
// signs the new one, so a client that trusts only the previous root accepts the new
// certificates, too. The default chain has that cross certificate, and an alternate
// chain has none.
//
// It must never sign twice with one serial number, forget a revocation that it
// confirmed, or use a key that is not on disk.
package localca
