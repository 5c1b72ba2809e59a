package issuer

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// readProfiles returns the profiles that the CA's directory advertises
// (draft-ietf-acme-profiles).
func (ca *CA) readProfiles(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// The directory is read without a key.
	core, err := ca.newCore(ca.wire.session(ctx), account{})
	if err != nil {
		return nil, err
	}
	return core.GetDirectory().Meta.Profiles, nil
}

// checkProfile returns an error if the CA does not advertise the profile. The error
// does not repeat the profile, which may be any text.
func checkProfile(profile string, advertised map[string]string) error {
	if _, ok := advertised[profile]; ok {
		return nil
	}
	if len(advertised) == 0 {
		return fmt.Errorf("the CA has no profiles; use none")
	}
	names := slices.Sorted(maps.Keys(advertised))
	return fmt.Errorf("the CA has no such profile; use none, or one of %s", acme.Shorten(strings.Join(names, ", ")))
}
