package hook

import (
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
)

// withheld returns the prefixes of variables that the proxy itself reads and that may
// hold secrets. A hook does not need them, and might print its environment or pass
// it on. All other variables are inherited, because users set their hooks'
// variables together with the proxy's.
func withheld() []string {
	prefixes := []string{
		own,
		"PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSSLPASSWORD", // PostgreSQL
	}
	for _, p := range dnsprovider.All() {
		prefixes = append(prefixes, p.Prefixes...)
	}
	return prefixes
}

// environ returns the inherited variables, followed by set. It omits the withheld
// variables and those that another tool's hook may have set.
func environ(inherited []string, set []variable) []string {
	replaced := make(map[string]bool, len(set))
	for _, v := range set {
		replaced[sameName(v.name)] = true
	}
	prefixes := withheld()
	isWithheld := func(name string) bool {
		return slices.ContainsFunc(prefixes, func(prefix string) bool { return strings.HasPrefix(sameName(name), prefix) })
	}
	var env []string
	for _, kv := range inherited {
		name, _, _ := strings.Cut(kv, "=")
		if !replaced[sameName(name)] && !isWithheld(name) {
			env = append(env, kv)
		}
	}
	for _, v := range set {
		if v.value != "" {
			env = append(env, v.name+"="+v.value)
		}
	}
	return env
}
