package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

// ValidateGrant checks a grant before it is stored. The error reports every fault
// with its field and the remedy.
func ValidateGrant(g clients.Grant) error {
	var faults []error
	fault := func(field string, err error) {
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", field, err))
		}
	}
	if len(g.Names) == 0 {
		fault("names", errors.New("none given; write what the client may ask for, such as web1.example.com or *.web1.example.com"))
	}
	for _, s := range g.Names {
		_, err := ParsePattern(s)
		fault("names", err)
	}
	if len(g.Modes) == 0 {
		fault("modes", fmt.Errorf("none given; write one or more of %s", clients.JoinModes(clients.GrantableModes(), ", ")))
	}
	for _, s := range g.Modes {
		if !s.IsGrantable() {
			fault("modes", fmt.Errorf("unknown mode %q; write one or more of %s", s, clients.JoinModes(clients.GrantableModes(), ", ")))
		}
	}
	for _, s := range g.Networks {
		fault("networks", CheckNetwork(s))
	}
	for _, s := range g.KeyTypes {
		fault("key_types", checkKeyType(s))
	}
	for _, s := range g.Profiles {
		fault("profiles", checkProfile(s))
	}
	if g.MaxNames < 0 || g.MaxNames > cert.MaxNames {
		fault("max_names", fmt.Errorf("%d is out of range; write 0 for no limit, or 1 to %d", g.MaxNames, cert.MaxNames))
	}
	if g.DailyQuota < 0 {
		fault("daily_quota", fmt.Errorf("%d is negative; write 0 for the proxy's default, or the number of requests per day", g.DailyQuota))
	}
	return errors.Join(faults...)
}

// CheckNetwork checks a network before it is stored.
func CheckNetwork(s string) error {
	_, ok, err := parsePrefix(s)
	if !ok && err == nil {
		err = fmt.Errorf("%q is not a network; write it like 192.0.2.0/24, 2001:db8::/32 or 192.0.2.1", s)
	}
	return err
}

// maxProfile is the length of the longest profile that the API accepts.
const maxProfile = 64

// checkProfile accepts printable text without spaces. The CA's profiles are not known
// here.
func checkProfile(s string) error {
	if s == "" || len(s) > maxProfile || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("%q is not a profile; write one that the CA's directory lists, or %s for requests without one", acme.Shorten(s), clients.ProfileDefault)
	}
	return nil
}

// checkKeyType is stricter than cert.ParseKeyType. It accepts only the canonical
// spelling, because key types of grants are compared as strings.
func checkKeyType(s string) error {
	k, err := cert.ParseKeyType(s)
	if err != nil {
		return err
	}
	if s != string(k) {
		return fmt.Errorf("key type %q is not in canonical form; write %s", s, k)
	}
	return nil
}
