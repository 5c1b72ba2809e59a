package managed

import "time"

// Failure describes a failed attempt.
type Failure struct {
	Reason  string // for the administrator
	Plain   string // for the client, without hosts, addresses or files of the administrator's network
	RetryAt time.Time
	// WaitUntil is the earliest attempt that the CA allows, at most RetryAt. If zero, the
	// CA did not ask to wait, and a person can end the delay.
	WaitUntil time.Time

	// With names the CA if the failure is temporary. The certificate then becomes due
	// before RetryAt if another order succeeds at that CA.
	With string

	// Tried reports that a person caused the attempt, so that it is not counted.
	Tried bool

	// Local reports a fault of this host, such as a full disk, which is not counted.
	Local bool
}
