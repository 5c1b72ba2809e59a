package preflight

import "github.com/acmeproxy/acmeproxy/pkg/api"

// Wire returns the report as the API sends it.
func (r Report) Wire() api.CheckReport {
	out := api.CheckReport{Viewpoint: r.Viewpoint, Names: make([]api.CheckedName, 0, len(r.Names))}
	for _, n := range r.Names {
		name := api.CheckedName{Name: n.Name, Verdict: string(n.Verdict), Checks: make([]api.Check, 0, len(n.Checks))}
		for _, c := range n.Checks {
			check := api.Check{Check: c.Check, Verdict: string(c.Verdict), Detail: c.Detail, Remedy: c.Remedy, By: string(c.By)}
			if c.Address.IsValid() {
				check.Address = c.Address.String()
			}
			name.Checks = append(name.Checks, check)
		}
		out.Names = append(out.Names, name)
	}
	return out
}
