package cmd

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// X19: every setting of serve is in exactly one class, so that no change is ignored
// silently, and the table reads the field of the flag.
func TestSettingsAreClassified(t *testing.T) {
	values := map[string]string{"bool": "true", "int": "7", "stringArray": "a", "stringSlice": "a"}
	defaults := *bindServe(pflag.NewFlagSet("", pflag.ContinueOnError))
	var listed []string
	for _, s := range config.Settings() {
		if slices.Contains(listed, s.Key) {
			t.Errorf("%s is listed twice", s.Key)
		}
		listed = append(listed, s.Key)
	}
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	bindServe(flags)
	flags.VisitAll(func(f *pflag.Flag) {
		fs := pflag.NewFlagSet("", pflag.ContinueOnError)
		changed := bindServe(fs)
		value := values[f.Value.Type()]
		if value == "" {
			value = "other"
		}
		if err := fs.Set(f.Name, value); err != nil {
			t.Fatal(err)
		}
		keys, err := config.Changes(defaults, *changed)
		restart := slices.Contains(config.NeedRestart(), f.Name)
		switch {
		case !slices.Contains(listed, f.Name):
			t.Errorf("%s is not in config.Settings", f.Name)
		case restart != (err != nil):
			t.Errorf("%s: needs a restart: %v, error: %v", f.Name, restart, err)
		case !restart && !slices.Equal(keys, []string{f.Name}):
			t.Errorf("%s: reported as %q", f.Name, keys)
		}
		listed = slices.DeleteFunc(listed, func(key string) bool { return key == f.Name })
	})
	if len(listed) > 0 {
		t.Errorf("no flags: %q", listed)
	}
}
