// Package cert holds the nouns of this project: names, keys, requests and
// bundles. It knows X.509 and nothing else: no network, no disk, no store.
//
//	names, err := cert.ParseNames("WWW.Example.com", "bücher.example")
//	key, err := cert.GenerateKey(cert.EC256)
//	csr, err := cert.NewCSR(key, names)
package cert
