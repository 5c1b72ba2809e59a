// Package renewal carries a due certificate through an issuance.
//
// A Queue claims due rows for package work. It asks the row's mode whether the
// certificate may still be obtained and how to store the bundle, and reports the
// outcome to the mode. A Claim writes a journal: it stores the order's URL, the CSR
// and the sealed key before it sends the CSR to the CA. After a crash the next Claim
// reads the same order from the CA and finishes it.
//
//	q := renewal.NewQueue(renewal.Config{Store: s, Issuer: ca, Modes: modes, …})
//	work.NewLoop(q, renewal.Workers, time.Now, logger).Run(ctx)
//
// It never writes a plaintext key outside of memory. It never decides who may have a
// certificate; the mode does.
package renewal
