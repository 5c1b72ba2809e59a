package managed

import "time"

// Deployment is the pending installation of a bundle's files and the run of its
// hook.
type Deployment struct {
	ManagedID  string
	ETag       string // of the bundle to deploy
	DueAt      time.Time
	LeaseOwner string // holder of the lease; empty: none
	LeaseUntil time.Time
	Failures   int
	LastError  string
}
