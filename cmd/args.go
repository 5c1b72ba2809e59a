package cmd

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/store/dsn"
)

// noArgs refuses arguments, like cobra.NoArgs, with exit code 2 and a remedy.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usage("%s takes no argument, but got %q; see %s --help", c.CommandPath(), dsn.Mask(args[0]), c.CommandPath())
	}
	return nil
}

// oneArg requires exactly one argument, which what describes.
func oneArg(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return usage("%s needs exactly one %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return notBlank(c, args)
	}
}

// someArgs requires at least one argument, which what describes.
func someArgs(what string) cobra.PositionalArgs { //nolint:unparam // the signature of oneArg
	return func(c *cobra.Command, args []string) error {
		if len(args) == 0 {
			return usage("%s needs at least one %s; see %s --help", c.CommandPath(), what, c.CommandPath())
		}
		return notBlank(c, args)
	}
}

// notBlank refuses an empty argument, which an unset variable of a script leaves. No
// command must take it as "all".
func notBlank(c *cobra.Command, args []string) error {
	for _, arg := range args {
		if strings.Trim(arg, " \t\r\n,") == "" {
			return usage("%s: the argument %q is empty; check the variable that it is from", c.CommandPath(), arg)
		}
	}
	return nil
}

// notBlankFlags refuses flags that were given with an empty value, which would select
// all.
func notBlankFlags(c *cobra.Command, names ...string) error {
	var faults []error
	for _, name := range names {
		if f := c.Flags().Lookup(name); f.Changed && strings.TrimSpace(f.Value.String()) == "" {
			faults = append(faults, usage("%s: is empty; write a value, or leave --%s out", name, name))
		}
	}
	return errors.Join(faults...)
}

// subcommand refuses the arguments of a command that has only subcommands.
func subcommand(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if near := meant(c, args[0]); len(near) > 0 {
		return usage("%s has no command %q; did you mean %s?", c.CommandPath(), dsn.Mask(args[0]), strings.Join(near, " or "))
	}
	return usage("%s has no command %q; see %s --help", c.CommandPath(), dsn.Mask(args[0]), c.CommandPath())
}

// meant returns the commands that a user of c may mean by an unknown name. It prefers
// commands of c that name it in SuggestFor, then commands elsewhere with this name,
// such as remote get for get, then similar names in c, then SuggestFor elsewhere.
func meant(c *cobra.Command, name string) []string {
	var here, named, suggested []string
	for _, sub := range c.Commands() {
		if slices.Contains(sub.SuggestFor, name) {
			here = append(here, sub.Name())
		}
	}
	var search func(*cobra.Command)
	search = func(in *cobra.Command) {
		for _, sub := range in.Commands() {
			switch {
			case !sub.IsAvailableCommand():
			case sub.Name() == name:
				named = append(named, sub.CommandPath())
			case slices.Contains(sub.SuggestFor, name):
				suggested = append(suggested, sub.CommandPath())
			}
			search(sub)
		}
	}
	search(c.Root())
	c.SuggestionsMinimumDistance = 2
	for _, near := range [][]string{here, named, slices.Compact(c.SuggestionsFor(name)), suggested} {
		if len(near) > 0 {
			return near
		}
	}
	return nil
}

// helpTopic requires the name of a command, in one or more arguments.
func helpTopic(c *cobra.Command, args []string) error {
	found, rest, err := c.Root().Find(args)
	if err != nil {
		return usageError{err}
	}
	if len(rest) > 0 {
		return subcommand(found, rest)
	}
	return nil
}

// nearFlag returns the flag that is most similar to name, or an empty string.
func nearFlag(fs *pflag.FlagSet, name string) string {
	var known []string
	fs.VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			known = append(known, f.Name)
		}
	})
	return config.Nearest(name, known)
}

// flagError replaces an error of pflag with one that says which values are valid.
func flagError(c *cobra.Command, err error) error {
	if args := c.Flags().Args(); c.HasSubCommands() && len(args) > 0 {
		return subcommand(c, args) // the flag belongs to an unknown command
	}
	var invalid *pflag.InvalidValueError
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearFlag(c.Flags(), unknown.GetSpecifiedName()); near != "" {
			return usage("%w; did you mean --%s?", err, near)
		}
	}
	if !errors.As(err, &invalid) {
		return usage("%w; see %s --help", err, c.CommandPath())
	}
	want := "another value"
	switch f := invalid.GetFlag(); f.Value.Type() {
	case "bool":
		want = "true or false, or nothing"
	case "int", "int64":
		want = "a whole number"
	case "days":
		want = "a time with its unit, such as 14d or 12h"
	case "duration":
		want = "a time with its unit, such as 30s or 12h"
	}
	return usage("--%s: %q is invalid; use %s", invalid.GetFlag().Name, invalid.GetValue(), want)
}
