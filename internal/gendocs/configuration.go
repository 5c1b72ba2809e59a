package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/config"
)

// intro has places for the settings that need a restart and for the keys of a
// certificate of remote run.
const intro = `# Configuration

<!-- Written by make docs from the code. Do not edit. -->

A flag overrides the environment, which overrides the file, which overrides the default.

- The environment: ` + "`ACMEPROXY_`" + ` and the flag's name in capitals, with ` + "`_`" + ` for ` + "`-`" + `. An empty variable is ignored. White space separates the entries of a list. A variable that belongs to no setting is reported.
- The file is YAML. Its keys are the flags' names, without dashes in front. A list is a YAML list or one string. An unknown key is an error. A list on the command line or in a variable replaces the file's list, which is reported.
- ` + "`acmeproxy serve`" + ` reads ` + "`/etc/acmeproxy/acmeproxy.yaml`" + `, and ` + "`acmeproxy remote run`" + ` reads ` + "`/etc/acmeproxy/remote.yaml`" + `, if it exists. ` + "`--config`" + ` or ` + "`ACMEPROXY_CONFIG`" + ` names another file, which must exist.
- The commands for administrators (` + "`status`, `reload`, `clients`, `certs`, `audit`, `check`" + `) read only ` + "`data-dir`" + `, and ` + "`store`" + ` also ` + "`store`" + `, from the environment and the file of ` + "`serve`" + `.
- The other commands of ` + "`remote`" + ` read only ` + "`state-dir`" + ` from the file of ` + "`remote run`" + `.
- The default folders below are root's. For other users they are ` + "`acmeproxy`" + ` and ` + "`acmeproxy-remote`" + ` in ` + "`$XDG_STATE_HOME`" + ` or ` + "`~/.local/state`" + `.

There are more variables. ` + "`LEGO_CA_CERTIFICATES`" + ` (serve) lists PEM files like ` + "`--ca-certificates`" + `, separated by colons; sudo removes it from the environment. A DNS provider has its own variables; see [challenges.md](challenges.md). ` + "`HTTPS_PROXY`" + ` (remote: to the proxy, serve: to the CA) names the HTTP proxy for outgoing connections. An invalid value is an error.

` + "`acmeproxy reload`, `systemctl reload acmeproxy`" + ` and SIGHUP make ` + "`serve`" + ` read its file again. Flags stay as given, and the environment is not read again. If the file has a fault, or changes a setting that needs a restart, nothing changes. These settings need a restart: %s.

The file of ` + "`remote run`" + ` may also have the key ` + "`certificates`" + `, a list. Each entry has ` + "`names`" + `; its other keys have the meaning of the flags of ` + "`remote get`" + `. They are %s. A relative ` + "`out`" + ` starts at the file's folder.
`

// sources describes where a command reads flags from, in addition to its command line.
type sources struct {
	env, file bool
	only      []string // the flags concerned; if empty, all
}

func sourcesOf(c *cobra.Command) sources {
	words := strings.Fields(c.CommandPath())[1:]
	switch strings.Join(words, " ") {
	case "serve", "remote run":
		return sources{env: true, file: true}
	}
	switch words[0] {
	case "remote":
		return sources{env: true}
	case "status", "reload", "clients", "certs", "audit", "check":
		return sources{env: true, only: []string{"data-dir"}}
	case "store":
		return sources{env: true, only: []string{"data-dir", "store"}}
	}
	return sources{}
}

// configuration returns the content of docs/configuration.md.
func configuration() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, intro, codes(config.NeedRestart()), codes(config.CertificateKeys()))
	everyCommand(root(), func(c *cobra.Command) {
		if c.HasSubCommands() || !c.Runnable() || strings.HasPrefix(c.CommandPath(), "acmeproxy completion") {
			return
		}
		var rows bytes.Buffer
		s := sourcesOf(c)
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden && f.Name != "help" {
				row(&rows, f, s)
			}
		})
		if rows.Len() == 0 {
			return
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s.\n\n| flag | environment | file | default | meaning |\n|---|---|---|---|---|\n%s", c.CommandPath(), c.Short, &rows)
	})
	return b.Bytes()
}

func row(b *bytes.Buffer, f *pflag.Flag, s sources) {
	variable, meaning := pflag.UnquoteUsage(f)
	flag, env, key, value := "--"+f.Name, "", "", f.DefValue
	if variable != "" {
		flag += " " + variable
	}
	if s.env && (f.Name == "config" || config.IsSetting(f.Name) && (len(s.only) == 0 || slices.Contains(s.only, f.Name))) {
		env = config.EnvName(f.Name)
	}
	if s.file && config.IsSetting(f.Name) {
		key = f.Name
	}
	if value == "[]" {
		value = ""
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n", code(flag), code(env), code(key), code(value), strings.ReplaceAll(meaning, "|", `\|`))
}

func codes(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

// code formats a table cell in monospace. An empty cell stays empty.
func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + strings.ReplaceAll(s, "|", `\|`) + "`"
}
