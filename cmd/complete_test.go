package cmd

import (
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// Each value that a shell completes for a setting of serve is valid, with the settings
// that it needs.
func TestCompletedValuesAreValid(t *testing.T) {
	t.Parallel()
	for flag, values := range completions() {
		for _, value := range values {
			var fs pflag.FlagSet
			cfg := bindServe(&fs)
			f := fs.Lookup(flag)
			if f == nil {
				continue // of other commands
			}
			cfg.DataDir = "/data"
			if err := f.Value.Set(value); err != nil {
				t.Errorf("--%s %s: %v", flag, value, err)
			}
			if flag == "dns-provider" || value == "dns-01" {
				cfg.DNSProvider = "exec"
			}
			if value == config.None && flag == "http-addr" {
				cfg.HTTP01Webroot = "/var/www"
			}
			if value == "pkcs12" {
				cfg.Files.PKCS12PasswordFile = "/password"
			}
			if err := cfg.Validate(); err != nil {
				t.Errorf("--%s %s: %v", flag, value, err)
			}
		}
	}
}

// Each flag with completions exists, so that a renamed flag does not lose them.
func TestCompletedFlagsExist(t *testing.T) {
	t.Parallel()
	var flags []string
	var visit func(*cobra.Command)
	visit = func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		for _, sub := range c.Commands() {
			visit(sub)
		}
	}
	visit(newRoot())
	for flag := range completions() {
		if !slices.Contains(flags, flag) {
			t.Errorf("no command has --%s", flag)
		}
	}
	for _, flag := range slices.Concat(fileFlags, folderFlags) {
		if !slices.Contains(flags, flag) {
			t.Errorf("no command has --%s", flag)
		}
	}
}

func TestPlainUsage(t *testing.T) {
	t.Parallel()
	root := newRoot()
	plainUsage(root)
	get, _, err := root.Find([]string{"remote", "get"})
	if err != nil {
		t.Fatal(err)
	}
	get.Flags().VisitAll(func(f *pflag.Flag) {
		if strings.Contains(f.Usage, "`") {
			t.Errorf("--%s: %s", f.Name, f.Usage)
		}
	})
}
