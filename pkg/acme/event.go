package acme

// Stage names a step of an issuance.
type Stage string

// The stages of one issuance, in order. Queued occurs only when the proxy is busy,
// Publishing only for DNS-01, Challenge and Validating only when authorizations
// are not reused.
const (
	Queued     Stage = "queued"     // waits for a free place
	Ordering   Stage = "ordering"   // newOrder is being sent
	Publishing Stage = "publishing" // one identifier's answer is being published, which can take minutes
	Challenge  Stage = "challenge"  // one identifier's token is published, and the CA was asked to validate
	Validating Stage = "validating" // the CA has fetched the answer, or should have
	Finalizing Stage = "finalizing" // all identifiers are valid; the CSR is being sent
	Issuing    Stage = "issuing"    // the CA signs
	Issued     Stage = "issued"     // the chain was received
)

// Event reports one step of an issuance.
type Event struct {
	Stage      Stage
	Identifier string // set for Publishing and Challenge only
}
