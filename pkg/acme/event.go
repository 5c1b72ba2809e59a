package acme

// Stage is a step of an issuance, in the order in which they come.
type Stage string

// The stages of one issuance. Queued comes only when the proxy is busy,
// Publishing only for DNS-01, Challenge and Validating only when authorizations
// are not reused.
const (
	Queued     Stage = "queued"     // waits for a free place
	Ordering   Stage = "ordering"   // newOrder is being sent
	Publishing Stage = "publishing" // one identifier's answer is being published, which takes its time
	Challenge  Stage = "challenge"  // one identifier's token is published, the CA was told
	Validating Stage = "validating" // the CA has fetched, or should have
	Finalizing Stage = "finalizing" // all identifiers are valid, the CSR is being sent
	Issuing    Stage = "issuing"    // the CA signs
	Issued     Stage = "issued"     // the chain is here
)

// Event reports one step of an issuance.
type Event struct {
	Stage      Stage
	Identifier string // set for Publishing and Challenge only
}
