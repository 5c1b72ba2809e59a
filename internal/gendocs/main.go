// Command gendocs generates documents from the command line's definition: the
// configuration reference, man pages and shell completions.
//
//	go run ./internal/gendocs config docs/configuration.md
//	go run ./internal/gendocs man dist/man
//	go run ./internal/gendocs completions dist/completions
//
// What it writes depends on the code alone, never on the machine, its user or
// the clock: pages are dated by SOURCE_DATE_EPOCH.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/cmd"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 2 {
		return errors.New("write config FILE, man FOLDER or completions FOLDER")
	}
	switch what, path := args[0], args[1]; what {
	case "config":
		return os.WriteFile(path, configuration(), 0o644)
	case "man":
		date, err := sourceDate(os.Getenv("SOURCE_DATE_EPOCH"))
		if err != nil {
			return err
		}
		return manPages(path, date)
	case "completions":
		return completions(path)
	default:
		return fmt.Errorf("%q is unknown; use config, man or completions", what)
	}
}

// sourceDate returns the date of the pages (reproducible-builds.org).
func sourceDate(epoch string) (time.Time, error) {
	seconds, err := strconv.ParseInt(epoch, 10, 64)
	if err != nil {
		return time.Time{}, fmt.Errorf("SOURCE_DATE_EPOCH is %q; write the seconds since 1970 of the last commit, or run make man", epoch)
	}
	return time.Unix(seconds, 0).UTC(), nil
}

// root returns the root command with the defaults of user root, on any machine.
func root() *cobra.Command {
	r := cmd.Root()
	r.InitDefaultCompletionCmd()
	everyCommand(r, func(c *cobra.Command) {
		c.DisableAutoGenTag = true
		c.InitDefaultHelpFlag()
		c.InitDefaultVersionFlag()
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if d, ok := folders[f.Name]; ok {
				f.DefValue = d
			}
		})
	})
	return r
}

// folders are the defaults that depend on who runs the program: root's.
var folders = map[string]string{
	"data-dir":  "/var/lib/acmeproxy",
	"state-dir": "/var/lib/acmeproxy-remote",
}

// everyCommand visits all commands that a user sees, parents first.
func everyCommand(c *cobra.Command, visit func(*cobra.Command)) {
	visit(c)
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			everyCommand(sub, visit)
		}
	}
}

func completions(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	r := root()
	for name, write := range map[string]func(*bytes.Buffer) error{
		"acmeproxy.bash": func(b *bytes.Buffer) error { return r.GenBashCompletionV2(b, true) },
		"_acmeproxy":     func(b *bytes.Buffer) error { return r.GenZshCompletion(b) },
		"acmeproxy.fish": func(b *bytes.Buffer) error { return r.GenFishCompletion(b, true) },
	} {
		var b bytes.Buffer
		if err := write(&b); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, name), b.Bytes(), 0o644); err != nil {
			return err
		}
	}
	return nil
}
