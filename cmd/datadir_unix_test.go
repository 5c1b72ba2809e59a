//go:build unix

package cmd

import "testing"

// A38
func TestDefaultDataDir(t *testing.T) {
	for _, test := range []struct {
		uid              int
		state, home, dir string
	}{
		{0, "/state", "/root", "/var/lib/acmeproxy"},
		{1000, "/state", "/home/ops", "/state/acmeproxy"},
		{1000, "", "/home/ops", "/home/ops/.local/state/acmeproxy"},
		{1000, "relative", "/home/ops", "/home/ops/.local/state/acmeproxy"},
		{1000, "", "", "/.local/state/acmeproxy"},
	} {
		env := map[string]string{"XDG_STATE_HOME": test.state, "HOME": test.home}
		if got := defaultDataDir(test.uid, func(name string) string { return env[name] }); got != test.dir {
			t.Errorf("%+v: got %s", test, got)
		}
	}
}
