package cmd

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

func newClients() *cobra.Command {
	c := &cobra.Command{
		Use:   "clients",
		Short: "Manage the clients that may request certificates",
		Long: `clients connects to the admin socket of the running proxy, so it works only on
the proxy's own host, for root and the proxy's user.`,
		Args: subcommand,
		RunE: showHelp,
	}
	c.AddCommand(newClientsAdd(), newClientsToken(), newClientsACME(), newClientsExplain(), newClientsApply(), newClientsExport(), newClientsList(), newClientsShow(),
		newClientsSwitch("disable", "Refuse a client's requests and stop renewing its certificates", true),
		newClientsSwitch("enable", "Accept a disabled client again", false),
		newClientsRemove())
	return c
}

func newClientsAdd() *cobra.Command {
	var flags adminFlags
	var req admin.NewClient
	var grant clients.Grant
	var modes []string
	var secret secretFlags
	c := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a client and print the command that enrols it",
		Long: `add creates a client and prints one line: the command to run on its host. The
token in it works once, expires, and pins this proxy's key. It is not shown
again.

Values of --allow:
  web1.example.com        this name
  *.example.com           names one label below
  **.example.com          names any number of labels below
  wildcard:example.com    the wildcard certificate *.example.com
  192.0.2.0/24            IP addresses

With --mode acme alone, it creates no token, and prints the command that creates
the credential of an ACME program.`,
		Example: `  acmeproxy clients add web1 --allow 'web1.example.com,*.web1.example.com' --mode agent
  acmeproxy clients add lb --allow www.example.com --recipient "$(cat lb1.pub)" --recipient "$(cat lb2.pub)"
  acmeproxy clients add script --allow api.example.com --mode gateway --bearer
  acmeproxy clients add mail --allow mail.example.com --mode acme`,
		SuggestFor: []string{"new", "create"},
		Args:       oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			what, err := secret.get(c.Flags())
			if err != nil {
				return err
			}
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			grant.Modes = clients.AsModes(modes)
			req.Name, req.Grants = args[0], []clients.Grant{grant}
			req.Bearer, req.URL, req.TokenLife = what.Bearer, what.URL, what.TokenLife
			req.NoSecret = onlyACME(grant.Modes) && !what.Bearer
			answer, err := a.AddClient(c.Context(), req)
			if err != nil {
				return inFlags(err)
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), answer)
			}
			return printSecret(c, answer, "added")
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringSliceVar(&grant.Names, "allow", nil, "`names` that it may request, as above; may be repeated or joined by commas")
	fs.StringSliceVar(&modes, "mode", []string{string(clients.ModeAgent), string(clients.ModeGateway)}, "`modes` that it may use: agent, gateway, acme, challenge; several as agent,gateway")
	fs.StringSliceVar(&grant.Networks, "from", nil, "`networks` from which it may enrol and send requests, such as 10.1.0.0/16 (default any)")
	fs.StringSliceVar(&grant.KeyTypes, "key-type", nil, "`types` of keys that it may use (default any)")
	fs.StringSliceVar(&grant.Profiles, "profile", nil, "the CA's `profiles` that it may request, such as shortlived; default: a request without one (default any)")
	fs.IntVar(&grant.MaxNames, "max-names", 0, "`number` of names that one of its certificates may have (default any)")
	fs.IntVar(&grant.DailyQuota, "quota", 0, "`number` of requests a day (UTC) that may cost an order (default the default-daily-quota of serve)")
	fs.StringArrayVar(&req.Recipients, "recipient", nil, "age or SSH public `key` to which its bundles are sealed, in addition to its own; may be repeated")
	secret.bind(fs)
	return c
}

func onlyACME(modes []clients.Mode) bool {
	return len(modes) > 0 && !slices.ContainsFunc(modes, func(m clients.Mode) bool { return m != clients.ModeACME })
}

// inFlags replaces the names of fields in the proxy's error with the flags of
// clients add that set them.
func inFlags(err error) error {
	return renamed(err, map[string]string{"names": "allow", "modes": "mode", "networks": "from", "key_types": "key-type", "profiles": "profile", "max_names": "max-names", "daily_quota": "quota", "token_life": "token-life"})
}

// renamed replaces the names of fields in a refusal by the proxy.
func renamed(err error, flags map[string]string) error {
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != http.StatusUnprocessableEntity {
		return err
	}
	var lines []string
	for line := range strings.Lines(p.Error()) {
		field, rest, _ := strings.Cut(line, ":")
		if flag, ok := flags[field]; ok {
			line = flag + ":" + rest
		}
		lines = append(lines, line)
	}
	return usageError{errors.New(strings.Join(lines, ""))}
}

func newClientsList() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "list",
		Short: "List the clients",
		Args:  noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			all, err := a.Clients(c.Context())
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), all)
			}
			t := newTable(c.OutOrStdout(), "NAME", "STATE", "MODES", "ALLOWED", "ADDED")
			for _, cl := range all {
				var modes []clients.Mode
				var names []string
				for _, g := range cl.Grants {
					names = append(names, g.Names...)
					for _, m := range g.Modes {
						if !slices.Contains(modes, m) {
							modes = append(modes, m)
						}
					}
				}
				t.row(cl.Name, state(cl), clients.JoinModes(modes, ","), list(names, ","), moment(cl.CreatedAt))
			}
			return t.flush()
		},
	}
	flags.bind(c.Flags())
	return c
}

func state(c admin.Client) string {
	if c.Disabled {
		return "disabled"
	}
	return "enabled"
}

func newClientsShow() *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   "show NAME",
		Short: "Show a client: grants, credentials, certificates",
		Args:  oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			cl, err := a.Client(c.Context(), args[0])
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), cl)
			}
			return printClient(c, cl)
		},
	}
	flags.bind(c.Flags())
	return c
}

func printClient(c *cobra.Command, cl admin.Client) error {
	printf(c, "%s  %s  added %s\n", cl.Name, state(cl), moment(cl.CreatedAt))
	for _, g := range cl.Grants {
		// Print all patterns without shortening; policy has checked them.
		printf(c, "grant       %s  modes %s", printable.Exact(strings.Join(g.Names, ",")), clients.JoinModes(g.Modes, ","))
		if len(g.Networks) > 0 {
			printf(c, "  from %s", strings.Join(g.Networks, ","))
		}
		if len(g.KeyTypes) > 0 {
			printf(c, "  key types %s", strings.Join(g.KeyTypes, ","))
		}
		if len(g.Profiles) > 0 {
			printf(c, "  profiles %s", strings.Join(g.Profiles, ","))
		}
		if g.MaxNames > 0 {
			printf(c, "  at most %d names", g.MaxNames)
		}
		if g.DailyQuota > 0 {
			printf(c, "  quota %s requests a day", strconv.Itoa(g.DailyQuota))
		}
		printf(c, "\n")
	}
	for _, r := range cl.Recipients {
		printf(c, "recipient   %s\n", r)
	}
	for _, w := range cl.Warnings {
		printf(c, "warning     %s\n", w)
	}
	for _, cr := range cl.Credentials {
		printf(c, "credential  %s  since %s", cr.Kind, moment(cr.CreatedAt))
		if clients.CredentialKind(cr.Kind).IsACME() {
			printf(c, "  %s", describeACME(cr))
		}
		if len(cr.Networks) > 0 {
			printf(c, "  from %s", strings.Join(cr.Networks, ","))
		}
		switch {
		case cr.ExpiresAt.IsZero():
		case cr.ExpiresAt.After(time.Now()):
			printf(c, "  until %s", moment(cr.ExpiresAt))
		default:
			printf(c, "  expired %s", moment(cr.ExpiresAt))
		}
		if !cr.LastUsed.IsZero() {
			printf(c, "  last used %s from %s", moment(cr.LastUsed), cr.LastFrom)
		}
		printf(c, "\n")
	}
	if len(cl.Certificates) == 0 {
		return nil
	}
	printf(c, "\n")
	t := newTable(c.OutOrStdout(), "NAMES", "EXPIRES", "NEXT ATTEMPT", "PROBLEM")
	for _, cert := range cl.Certificates {
		t.row(list(cert.Names, " "), moment(cert.NotAfter), moment(cert.NextAttempt), describeProblem(cert))
	}
	return t.flush()
}

func newClientsSwitch(verb, short string, disabled bool) *cobra.Command {
	var flags adminFlags
	c := &cobra.Command{
		Use:   verb + " NAME",
		Short: short,
		Args:  oneArg("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			a, err := flags.dial(c)
			if err != nil {
				return err
			}
			cl, err := a.SetDisabled(c.Context(), args[0], disabled)
			if err != nil {
				return err
			}
			if flags.json {
				return printJSON(c.OutOrStdout(), cl)
			}
			_, err = printf(c, "client %q is %s\n", cl.Name, state(cl))
			return err
		},
	}
	flags.bind(c.Flags())
	return c
}
