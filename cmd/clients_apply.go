package cmd

import (
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
)

func newClientsApply() *cobra.Command {
	var flags adminFlags
	var file string
	var yes bool
	var req admin.ApplyRequest
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Make the clients match a file",
		Long: `apply makes the clients match a file, for configuration management. It makes
all changes or none. Applying the same file again changes nothing.

  clients:
    web1:
      grants:
        - names: [web1.example.com, "*.web1.example.com"]
          modes: [agent]

apply adds missing clients, without a secret; run "acmeproxy clients token NAME"
to create one. It replaces grants and disabled with the values in the file, and
adds recipients to those that the client has. Clients that the file does not name
do not change. --prune removes them with their credentials and certificates. On a
terminal, it asks for confirmation first.`,
		Example: `  acmeproxy clients apply -f clients.yaml --dry-run
  acmeproxy clients apply -f clients.yaml
  acmeproxy clients apply -f - --prune < clients.yaml`,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 1 && file == "" {
				return usage("file: write -f %s", args[0])
			}
			return noArgs(c, args)
		},
		RunE: func(c *cobra.Command, _ []string) error {
			wanted, err := readClients(file, c.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			for _, cl := range wanted {
				req.Clients = append(req.Clients, admin.ClientSpec(cl))
			}
			if err := confirmPrune(c, a, yes, req); err != nil {
				return err
			}
			answer, err := a.Apply(c.Context(), req)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), answer)
			}
			return printApplied(c, file, answer)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringVarP(&file, "file", "f", "", "`file` that describes the clients (YAML), or - for standard input")
	fs.BoolVar(&req.DryRun, "dry-run", false, "show the changes without making them")
	fs.BoolVar(&req.Prune, "prune", false, "remove clients that the file does not name, with their credentials, certificates and bundles")
	yesFlag(fs, &yes)
	return c
}

// confirmPrune asks before clients are removed.
func confirmPrune(c *cobra.Command, a *admin.Admin, yes bool, req admin.ApplyRequest) error {
	if yes || !req.Prune || req.DryRun || !atTerminal(c) {
		return nil
	}
	req.DryRun = true
	plan, err := a.Apply(c.Context(), req)
	if err != nil {
		return err
	}
	var removed []string
	for _, change := range plan.Changes {
		if change.Action == string(clients.Remove) {
			removed = append(removed, change.Name)
		}
	}
	if len(removed) == 0 {
		return nil
	}
	return confirm(c, yes, "remove clients that are not in the file, with their credentials, certificates and bundles: %s?", few(removed))
}

func readClients(file string, stdin io.Reader) ([]config.Client, error) {
	checks := config.ClientChecks{Name: enroll.CheckName, Grant: policy.ValidateGrant}
	switch file {
	case "":
		return nil, usage("file: missing; use -f clients.yaml with the file that describes the clients, or -f - for standard input")
	case "-":
		return config.ReadClients("standard input", stdin, checks)
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("file: %w; use the path of the file that describes the clients", err)
	}
	defer f.Close()
	return config.ReadClients(file, f, checks)
}

// printApplied prints the changes to standard output, and what is left to do to
// standard error.
func printApplied(c *cobra.Command, file string, answer admin.ApplyAnswer) error {
	signs := map[string]string{"add": "+", "change": "~", "remove": "-"}
	counts := map[string]int{}
	for _, change := range answer.Changes {
		counts[change.Action]++
		if _, err := printf(c, "%s %s: %s\n", signs[change.Action], change.Name, change); err != nil {
			return err
		}
	}
	summary := "%d added, %d changed, %d removed, %d unchanged\n"
	switch {
	case len(answer.Changes) == 0:
		_, err := printf(c, "nothing to change\n")
		if err != nil {
			return err
		}
		summary = ""
	case answer.DryRun:
		summary = "%d to add, %d to change, %d to remove, %d unchanged; this was a dry run, nothing was changed\n"
	}
	if summary != "" {
		if _, err := printf(c, summary, counts["add"], counts["change"], counts["remove"], answer.Unchanged); err != nil {
			return err
		}
	}
	if file == "-" {
		file = "standard input"
	}
	if len(answer.Left) > 0 {
		printErrf(c, "not in %s, and not changed: %s; --prune removes such clients\n", file, few(answer.Left))
	}
	if counts["add"] > 0 && !answer.DryRun {
		printErrf(c, "the added clients cannot request anything yet; run this to create a token for each:\n")
		for _, change := range answer.Changes {
			if change.Action == "add" {
				printErrf(c, "acmeproxy clients %s %s\n", firstCredential(change), change.Name)
			}
		}
	}
	return nil
}

// firstCredential returns the command that creates the credential of an added client.
func firstCredential(change admin.ClientChange) string {
	for _, g := range change.After.Grants {
		if !onlyACME(g.Modes) {
			return "token"
		}
	}
	return "acme"
}

// few joins the first names of a list that may be very long.
func few(names []string) string {
	const most = 20
	text := strings.Join(names[:min(most, len(names))], ", ")
	if n := len(names) - most; n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

func newClientsExport() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "export",
		Short: "Print all clients as a file for clients apply",
		Long: `export prints a file for clients apply: names, grants, recipients, and whether a
client is disabled. It contains no tokens, keys or certificates.`,
		Example: `  acmeproxy clients export > clients.yaml`,
		Args:    noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			all, err := a.Clients(c.Context())
			if err != nil {
				return err
			}
			clients := make([]config.Client, 0, len(all))
			for _, cl := range all {
				clients = append(clients, config.Client{Name: cl.Name, Disabled: cl.Disabled, Recipients: cl.Recipients, Grants: cl.Grants})
			}
			file := config.NewClientsFile(clients)
			if flags.json { // apply reads JSON, too
				return printJSON(c.OutOrStdout(), file)
			}
			return file.WriteYAML(c.OutOrStdout())
		},
	}
	flags.bind(c.Flags())
	return c
}
