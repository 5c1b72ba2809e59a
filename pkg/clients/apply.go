package clients

// Apply is the wanted set of clients.
type Apply struct {
	Clients []Client // each name once; ID and CreatedAt are ignored
	Prune   bool     // remove every client that is not among Clients
	DryRun  bool     // change nothing
}

// Action is what happens to a client.
type Action string

// The actions of a Change.
const (
	Add    Action = "add"
	Alter  Action = "change"
	Remove Action = "remove"
)

// Change is the difference for one client.
type Change struct {
	Name          string
	Action        Action
	Before, After Client // the zero Client where there is none
	Certificates  int64  // removed together with the client
}

// Applied is the result of an Apply.
type Applied struct {
	Changes   []Change // ordered by name
	Unchanged int      // clients that matched already
	Left      []string // names that are not among Apply's, ordered; those clients stay
}
