package cmd

import (
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// variableFlags returns the flags that a variable can set, of all commands. A file of
// variables is often shared by several commands.
func variableFlags(root *cobra.Command) []string {
	flags := []string{"config"}
	add := func(c *cobra.Command) {
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if config.IsSetting(f.Name) {
				flags = append(flags, f.Name)
			}
		})
	}
	for _, c := range root.Commands() {
		switch c.Name() {
		case "serve":
			add(c)
		case "remote":
			for _, sub := range c.Commands() {
				add(sub)
			}
		}
	}
	return flags
}

// checkEnvironment warns about variables that set nothing, if the command reads any. A
// daemon warns in its log; see logOrigin.
func checkEnvironment(c *cobra.Command) {
	reads := c.Flags().Lookup("data-dir") != nil || c.Flags().Lookup("state-dir") != nil
	if !reads || c.Name() == "serve" || c.Name() == "run" {
		return
	}
	for _, u := range config.UnknownVariables(os.Environ(), variableFlags(c.Root())) {
		remedy := "remove it; acmeproxy serve --help and acmeproxy remote get --help list the settings"
		if u.Near != "" {
			remedy = "did you mean " + u.Near + "?"
		}
		warn(c, u.Variable+": no setting has this variable; "+remedy)
	}
}

// logOrigin warns about settings that have no effect: unknown variables, and lists of
// the file that the command line or a variable replaces.
func logOrigin(c *cobra.Command, logger *slog.Logger, o config.Origin) {
	for _, u := range config.UnknownVariables(os.Environ(), variableFlags(c.Root())) {
		logger.Warn("no setting has this variable", "variable", u.Variable, "did_you_mean", u.Near)
	}
	for _, h := range o.Hidden {
		by := h.Variable
		if by == "" {
			by = "--" + h.Key
		}
		logger.Warn("the file's list is not used, because another one replaces it; keep one of the two",
			"key", h.Key, "file", h.Place, "used", by, "not_used", h.Missing)
	}
}
