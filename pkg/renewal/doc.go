// Package renewal carries a due certificate through an issuance.
//
// A Queue claims due rows for package work. It asks the row's mode whether the
// certificate may be obtained still and what becomes of it, and tells the mode
// the outcome. A Claim keeps a journal: the order's URL, the CSR and the sealed
// key are stored before anything depends on them, and after a crash the same
// order is read again from the CA and finished.
//
//	q := renewal.NewQueue(renewal.Config{Store: s, Issuer: ca, Modes: modes, …})
//	work.NewLoop(q, renewal.Workers, time.Now, logger).Run(ctx)
//
// It never holds a plaintext key outside of memory, and never decides who may
// have a certificate: the mode does.
package renewal
