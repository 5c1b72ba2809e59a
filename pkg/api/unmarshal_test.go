package api_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// What is short as text and large in memory is not decoded.
func TestUnmarshalLimit(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		text   string
		values int
		few    bool
	}{
		"empty objects":            {`[` + strings.Repeat(`{},`, 1000) + `{}]`, 2002, false},
		"numbers":                  {`[` + strings.Repeat(`1,`, 1000) + `1]`, 1001, false},
		"members":                  {`{` + strings.Repeat(`"a":1,`, 1000) + `"a":1}`, 1001, false},
		"punctuation in a string":  {`["` + strings.Repeat(`{[,\"\\`, 1000) + `"]`, 1, true},
		"a string that ends early": {`"\`, 0, true},
	} {
		var v any
		n, err := api.Unmarshal([]byte(tc.text), 1000, &v)
		if n != tc.values || errors.Is(err, api.ErrTooManyValues) == tc.few {
			t.Errorf("%s: %d values, error %v; want %d", name, n, err, tc.values)
		}
		if !tc.few && v != nil {
			t.Errorf("%s: decoded all the same", name)
		}
	}
}
