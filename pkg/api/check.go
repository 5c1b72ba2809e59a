package api

// MaxCheckNames is the maximum number of names in a CheckRequest.
const MaxCheckNames = 16

// CheckRequest asks whether a CA could validate names.
type CheckRequest struct {
	Names []string `json:"names" minItems:"1" maxItems:"16" doc:"DNS names or IP addresses, each granted to the caller"`
}

// CheckReport holds the verdicts of all names, in their order.
type CheckReport struct {
	Viewpoint string        `json:"viewpoint" doc:"the limit of all verdicts"`
	Names     []CheckedName `json:"names"`
}

// CheckedName holds the checks of one name.
type CheckedName struct {
	Name    string  `json:"name"`
	Verdict string  `json:"verdict" enum:"ok,not checked,warning,fails" doc:"the worst of all checks"`
	Checks  []Check `json:"checks"`
}

// Check holds one verdict. Detail and Remedy are a line each.
type Check struct {
	Check   string `json:"check" enum:"dns,http,caa"`
	Address string `json:"address,omitempty" doc:"the address of an http check"`
	Verdict string `json:"verdict" enum:"ok,not checked,warning,fails"`
	Detail  string `json:"detail"`
	Remedy  string `json:"remedy,omitempty"`
	By      string `json:"by,omitempty" enum:"name,proxy" doc:"who must apply the remedy: name: who manages the name's DNS or the server at its address; proxy: the proxy's administrator"`
}

// The values of verdicts and By that a program needs.
const (
	CheckFails   = "fails"
	ByNameOwner  = "name"
	ByProxyAdmin = "proxy"
)

// Failing returns the names that have a failing check.
func (r CheckReport) Failing() []string {
	var names []string
	for _, n := range r.Names {
		if n.Verdict == CheckFails {
			names = append(names, n.Name)
		}
	}
	return names
}
