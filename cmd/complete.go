package cmd

import (
	"cmp"
	"context"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// completionTimeout limits the wait for a proxy while the user waits for the shell.
const completionTimeout = time.Second

// completions returns the values of flags that have few, by the flag's name.
func completions() map[string][]string {
	values := map[string][]string{
		"mode":                {string(clients.ModeAgent), string(clients.ModeGateway)},
		"format":              {certfile.FormatHAProxy, certfile.FormatPKCS12, certfile.FormatPEM},
		"log-level":           {"debug", "info", "warn", "error"},
		"log-format":          {"text", "json"},
		"challenge":           {"http-01", "tls-alpn-01", "dns-01"},
		"dns-provider":        dnsprovider.Names(),
		"dns-propagation":     {"nameservers", "resolvers", "none"},
		"http-fallback":       {config.FallbackNotFound, config.FallbackRedirect},
		"http-addr":           {config.None},
		"default-daily-quota": {config.QuotaAuto},
		"outcome":             outcomes,
		"acme-directory-url":  {config.LetsEncrypt},
	}
	for _, t := range cert.KeyTypes {
		values["key-type"] = append(values["key-type"], string(t))
	}
	for _, r := range cert.Reasons {
		values["reason"] = append(values["reason"], string(r))
	}
	return values
}

// Flags whose value is a path. All others have no file as their value.
var (
	fileFlags   = []string{"config", "file", "identity", "pkcs12-password-file", "eab-hmac-key-file", "ca-certificates", "from", "to"}
	folderFlags = []string{"data-dir", "state-dir", "out", "cert-dir", "http-01-webroot"}
)

// addCompletions makes shells complete the values of flags and arguments of all
// commands below root.
func addCompletions(root *cobra.Command) {
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	values := completions()
	var add func(*cobra.Command)
	add = func(c *cobra.Command) {
		for flag, known := range values {
			complete(c, flag, oneOf(known))
		}
		for _, flag := range fileFlags {
			complete(c, flag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveDefault))
		}
		for _, flag := range folderFlags {
			complete(c, flag, cobra.FixedCompletions(nil, cobra.ShellCompDirectiveFilterDirs))
		}
		complete(c, "client", clientNames)
		switch c.CommandPath() {
		case root.Name() + " remote get":
			complete(c, "name", storedNames)
		case root.Name() + " certs list":
			complete(c, "name", certificateNames)
		}
		if c.HasParent() && c.ValidArgsFunction == nil && strings.Contains(c.Use, " ") {
			c.ValidArgsFunction = argumentsOf(c)
		}
		for _, sub := range c.Commands() {
			add(sub)
		}
	}
	add(root)
}

// complete makes f complete a flag, if the command has it.
func complete(c *cobra.Command, flag string, f cobra.CompletionFunc) {
	if c.Flags().Lookup(flag) != nil {
		_ = c.RegisterFlagCompletionFunc(flag, f) // fails only if it is registered already
	}
}

// oneOf completes one of the known values, also behind a comma.
func oneOf(known []string) cobra.CompletionFunc {
	return func(_ *cobra.Command, _ []string, typed string) (values []string, _ cobra.ShellCompDirective) {
		before := typed[:strings.LastIndexByte(typed, ',')+1]
		for _, value := range known {
			if !slices.Contains(strings.Split(before, ","), value) && strings.HasPrefix(before+value, typed) {
				values = append(values, before+value)
			}
		}
		return values, cobra.ShellCompDirectiveNoFileComp
	}
}

// argumentsOf returns the function that completes a command's arguments, or nil.
func argumentsOf(c *cobra.Command) cobra.CompletionFunc {
	switch {
	case c.Parent().Name() == "clients" && c.Name() != "add":
		return first(clientNames)
	case c.Parent().Name() == "certs" && c.Name() != "list":
		return first(certificates)
	case c.Parent().Name() == "remote" && c.Name() != "enroll":
		return hostNames
	}
	return nil
}

// first limits a completion to the first argument.
func first(f cobra.CompletionFunc) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return f(c, args, typed)
	}
}

// completionAdmin returns the flags of a command that connects to the proxy, as typed so
// far.
func completionAdmin(c *cobra.Command) adminFlags {
	var f adminFlags
	f.dataDir, f.config = flagText(c.Flags(), "data-dir"), flagText(c.Flags(), "config")
	return f
}

func flagText(fs *pflag.FlagSet, name string) string {
	text, _ := fs.GetString(name) // empty without such a flag
	return text
}

// clientNames completes the name of a client of the running proxy. A completion never
// prints an error.
func clientNames(c *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	flags := completionAdmin(c)
	if a, err := flags.dial(c); err == nil {
		all, _ := a.Clients(ctx)
		for _, cl := range all {
			names = append(names, cobra.CompletionWithDesc(printable.Line(cl.Name), state(cl)))
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// certificateNames completes one of all the names that the running proxy manages.
func certificateNames(c *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	flags := completionAdmin(c)
	if a, err := flags.dial(c); err == nil {
		all, _ := a.Certificates(ctx, admin.CertificateQuery{})
		for _, m := range all {
			for _, name := range m.Names {
				names = append(names, printable.Line(name))
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names), cobra.ShellCompDirectiveNoFileComp
}

// certificates completes a certificate that the running proxy manages: by its first
// name, or by its id if another one has this name, too, or if an id was begun.
func certificates(c *cobra.Command, _ []string, typed string) (values []string, _ cobra.ShellCompDirective) {
	ctx, cancel := context.WithTimeout(c.Context(), completionTimeout)
	defer cancel()
	flags := completionAdmin(c)
	known := map[string]int{}
	if a, err := flags.dial(c); err == nil {
		all, _ := a.Certificates(ctx, admin.CertificateQuery{})
		all = slices.DeleteFunc(all, func(m admin.Certificate) bool { return len(m.Names) == 0 })
		for _, m := range all {
			for _, name := range m.Names {
				known[name]++
			}
		}
		for _, m := range all {
			text := strings.TrimSpace(m.Client + " " + list(m.Names, " "))
			if known[m.Names[0]] == 1 {
				values = append(values, cobra.CompletionWithDesc(printable.Line(m.Names[0]), printable.Line(text)))
			}
			if known[m.Names[0]] > 1 || typed != "" && strings.HasPrefix(m.ID, typed) {
				values = append(values, cobra.CompletionWithDesc(m.ID, printable.Line(text)))
			}
		}
	}
	return values, cobra.ShellCompDirectiveNoFileComp
}

// hostNames completes this host's certificates by their stored names, or the names in
// them for commands that take such names. Behind names of one certificate, it completes
// the others of it, too, because all of them together mean the certificate.
func hostNames(c *cobra.Command, args []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	for _, k := range keptCertificates(c) {
		meant := []string{cmp.Or(k.Name, k.Names[0])} // the stored name means the whole certificate
		isOther := func(name string) bool { return !slices.Contains(k.Names, name) }
		if c.Name() == "get" || c.Name() == "check" {
			meant = k.Names
		} else if len(args) > 0 && !slices.ContainsFunc(args, isOther) {
			meant = append(meant, k.Names...)
		}
		slices.Sort(meant)
		for _, name := range slices.Compact(meant) {
			if !slices.Contains(args, name) {
				names = append(names, cobra.CompletionWithDesc(name, string(k.Mode)+" "+list(k.Names, " ")))
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// storedNames completes the stored names of this host's certificates.
func storedNames(c *cobra.Command, _ []string, _ string) (names []string, _ cobra.ShellCompDirective) {
	for _, k := range keptCertificates(c) {
		names = append(names, cobra.CompletionWithDesc(cmp.Or(k.Name, k.Names[0]), string(k.Mode)+" "+list(k.Names, " ")))
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// keptCertificates returns this host's certificates, or nil if they cannot be read.
func keptCertificates(c *cobra.Command) []remote.Kept {
	flags := remoteFlags{stateDir: flagText(c.Flags(), "state-dir"), config: flagText(c.Flags(), "config")}
	if !c.Flags().Changed("state-dir") {
		if env := os.Getenv(config.EnvName("state-dir")); env != "" {
			flags.stateDir = env
		} else if err := flags.load(c); err != nil {
			return nil
		}
	}
	s, err := openState(flags.stateDir)
	if err != nil {
		return nil
	}
	all, _ := s.Kept()
	return all
}

// plainUsage removes the quotes around the placeholders in the descriptions of flags,
// which a shell would show.
func plainUsage(c *cobra.Command) {
	c.Flags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	for _, sub := range c.Commands() {
		plainUsage(sub)
	}
}
