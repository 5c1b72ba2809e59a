// Package cert defines the types of this project: names, keys, requests and
// bundles. It handles X.509 only and uses no network, disk or store.
//
//	names, err := cert.ParseNames("WWW.Example.com", "bücher.example")
//	key, err := cert.GenerateKey(cert.EC256)
//	csr, err := cert.NewCSR(key, names)
package cert
