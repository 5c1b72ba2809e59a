package hook

import (
	"os"
	"slices"
	"strings"
)

// withheld are how the names of variables begin that the proxy itself reads and
// that may hold secrets. They are no concern of a hook's, which may print its
// environment, or pass it on. Everything else is inherited, since people set
// their hooks' own variables where they set the proxy's.
var withheld = []string{
	own,
	"DNSUPDATE_", "RFC2136_", "EXEC_", "HTTPREQ_", "ACME_DNS_", // DNS providers
	"PGPASSWORD", "PGPASSFILE", "PGSERVICEFILE", "PGSSLPASSWORD", // PostgreSQL
}

// environ is the process's environment without what is withheld and without
// what another tool's hook may have left there, followed by what is set.
func environ(set []variable) []string {
	replaced := make(map[string]bool, len(set))
	for _, v := range set {
		replaced[v.name] = true
	}
	var env []string
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		if !replaced[name] && !isWithheld(name) {
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

func isWithheld(name string) bool {
	return slices.ContainsFunc(withheld, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
}
