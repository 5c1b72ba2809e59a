package clients

// Apply holds the desired set of clients.
type Apply struct {
	Clients []Client // each name once; ID and CreatedAt are ignored
	Prune   bool     // remove every client that is not among Clients
	DryRun  bool     // change nothing
}

// Action names a change to a client.
type Action string

// The actions of a Change.
const (
	Add    Action = "add"
	Alter  Action = "change"
	Remove Action = "remove"
)

// Change describes the difference for one client.
type Change struct {
	Name          string
	Action        Action
	Before, After Client // the zero Client before Add and after Remove
	Certificates  int64  // removed together with the client
}

// Applied holds the result of an Apply.
type Applied struct {
	Changes   []Change // ordered by name
	Unchanged int      // clients that matched already
	Left      []string // names of clients that are not in Apply and stay, ordered
}
