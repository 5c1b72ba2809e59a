package cmd

import (
	"path/filepath"

	"github.com/spf13/cobra"
)

func newRekey() *cobra.Command {
	var flags remoteFlags
	var identity string
	var asJSON bool
	c := &cobra.Command{
		Use:   "rekey",
		Short: "Replace this host's TLS key, and its age identity",
		Long: `rekey makes a new TLS key and registers it at the proxy with the old one, which
the proxy refuses from then on. Where bundles are sealed to the identity.age of
the state directory, that is replaced, too; an SSH key or another file that
enroll --identity named stays, unless --identity names a new one.

The identities of before are kept, because the bundles that the proxy has now
are sealed to them until each is renewed. A daemon that runs (acmeproxy remote
run) goes on with the new keys by itself. Killed at any moment, nothing is lost:
run it again.

If the old keys were stolen, rekey locks out who has them, provided that he did
not come first. Then get --renew each certificate, because the old identity
opens what was sealed before.`,
		Example: `  acmeproxy remote rekey
  acmeproxy remote rekey --identity /etc/ssh/ssh_host_ed25519_key`,
		Args: noArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			if identity != "" {
				if identity, err = filepath.Abs(identity); err != nil {
					return err
				}
			}
			r, err := s.Rekey(c.Context(), identity)
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), r)
			}
			if r.Finished {
				printf(c, "a rekey that was interrupted is complete now\n")
			}
			printf(c, "%q has a new TLS key at %s\nits bundles are sealed to %s\n", r.Client, r.Proxy, r.Recipient)
			return nil
		},
	}
	flags.bind(c.Flags())
	c.Flags().StringVar(&identity, "identity", "", "open bundles with this key `file` from now on: an age identity, or an SSH private key with its .pub beside it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}
