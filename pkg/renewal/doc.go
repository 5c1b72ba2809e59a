// Package renewal decides when a managed certificate is due and sees that
// somebody works on it.
//
// The row itself says when it is due; there is no second schedule. A Loop
// claims due rows with a lease, so that two instances never work on the same
// one and a dead instance's rows come free. A Claim carries one row through an
// issuance with a journal: the order's URL, the CSR and the sealed key are
// stored before anything depends on them, and after a crash the same order is
// read again from the CA and finished.
//
//	q := renewal.NewQueue(renewal.Config{Store: s, Issuer: ca, Modes: modes, …})
//	renewal.NewLoop(q, 8, logger).Run(ctx)
//
// It never holds a plaintext key outside of memory, and never decides who may
// have a certificate: that is the mode's.
package renewal
