package managed

import "time"

// Failure describes a failed attempt.
type Failure struct {
	Reason  string // for the administrator
	Plain   string // for the client: no host, address or file of the administrator's network
	RetryAt time.Time

	// With names the CA if the reason is temporary. The certificate may then
	// become due before RetryAt, when another order succeeds at that CA.
	With string

	// Local faults, such as a full disk, are not counted.
	Local bool
}
