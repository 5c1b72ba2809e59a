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

// profiles are those that the CA's directory advertises (draft-ietf-acme-profiles).
func (ca *CA) profiles(ctx context.Context) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	// A key is needed to make a core, not to read a directory.
	core, err := ca.core(ca.wire.session(ctx), account{})
	if err != nil {
		return nil, err
	}
	return core.GetDirectory().Meta.Profiles, nil
}

// checkProfile does not repeat what was asked for, which may be anything.
func checkProfile(profile string, advertised map[string]string) error {
	if _, ok := advertised[profile]; ok {
		return nil
	}
	if len(advertised) == 0 {
		return fmt.Errorf("the CA has no profiles; leave it out")
	}
	names := slices.Sorted(maps.Keys(advertised))
	return fmt.Errorf("the CA has no such profile; leave it out, or write one of %s", acme.Shorten(strings.Join(names, ", ")))
}
