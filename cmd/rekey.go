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
		Long: `rekey creates a new TLS key and registers it at the proxy with the old one, which
the proxy refuses from then on. If bundles are sealed to the identity.age of the
state directory, rekey replaces that file, too. An SSH key or another file that
enroll --identity named stays, unless --identity names a new one.

rekey does not delete the old identities, because the proxy's present bundles are
sealed to them until each is renewed. A running daemon (acmeproxy remote run)
continues with the new keys automatically. If rekey is interrupted, nothing is
lost: run it again.

If the old keys were stolen, rekey locks the thief out, unless the thief
ran rekey first. Then run get --renew for each certificate, because the old identity opens
earlier bundles.`,
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
