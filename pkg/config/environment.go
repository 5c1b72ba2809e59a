package config

import (
	"regexp"
	"slices"
	"strings"
)

// Unknown is a variable with our prefix that is no setting of any command.
type Unknown struct {
	Variable string
	Near     string // the most similar variable; may be empty
}

// injected matches variables that Kubernetes and Docker set in a container for a
// service named acmeproxy.
var injected = regexp.MustCompile(`^(SERVICE_(HOST|PORT).*|PORT(_[0-9]+_(TCP|UDP)(_.*)?)?|NAME|ENV_.*)$`)

// UnknownVariables returns the variables in environ that begin with EnvPrefix, have a
// value, and belong to none of the flags. The environment of a hook has variables of
// its own and is not checked. No value is returned, because it may be a secret.
func UnknownVariables(environ, flags []string) []Unknown {
	const most = 20
	var all []Unknown
	for _, entry := range environ {
		variable, value, _ := strings.Cut(entry, "=")
		rest, ours := strings.CutPrefix(variable, EnvPrefix)
		if !ours || value == "" || injected.MatchString(rest) {
			continue
		}
		if rest == "EVENT" { // a hook runs this program
			return nil
		}
		if slices.ContainsFunc(flags, func(f string) bool { return EnvName(f) == variable }) {
			continue
		}
		u := Unknown{Variable: variable}
		if near := Nearest(rest, flags); near != "" {
			u.Near = EnvName(near)
		}
		all = append(all, u)
	}
	slices.SortFunc(all, func(a, b Unknown) int { return strings.Compare(a.Variable, b.Variable) })
	return all[:min(most, len(all))]
}
