package cmd

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// forgotten holds the output of forget.
type forgotten struct {
	Names        cert.Names         `json:"names"`
	Modes        []clients.Mode     `json:"modes"` // of the certificates that were forgotten
	Certificates []remote.Forgotten `json:"certificates"`
}

func newForget() *cobra.Command {
	var flags remoteFlags
	var o remote.ForgetOptions
	var asJSON bool
	c := &cobra.Command{
		Use:   "forget NAME…",
		Short: "Stop renewing a certificate, by its stored name or its names; the files stay",
		Long: `forget makes "acmeproxy remote run" ignore a certificate. NAME is the stored name
that "acmeproxy remote list" shows, or all names of the certificate. Several stored
names mean several certificates. The files stay.

In agent mode the proxy stops renewing the certificate, too. If other hosts are
enrolled for the same client, the proxy continues for them, and --on-proxy ends it
for all, until one of them asks again. If the proxy cannot be reached, nothing changes; --local does not ask it.

A certificate of the configuration file cannot be forgotten. Remove its entry first.`,
		Example: `  acmeproxy remote forget old.example.com
  acmeproxy remote forget web1.example.com www.example.com --local`,
		SuggestFor: []string{"rm", "remove", "delete"},
		Args:       someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			if o.OnProxy && o.Local {
				return usage("--on-proxy and --local exclude each other; use one of them")
			}
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			done, failure := forget(c, s, args, remoteConfigFile(flags.config), o)
			switch {
			case len(done.Certificates) == 0:
				return failure
			case asJSON:
				err = printJSON(c.OutOrStdout(), done)
			default:
				err = printForgotten(c, s, done, o)
			}
			return errors.Join(failure, err)
		},
	}
	flags.bind(c.Flags())
	c.Flags().BoolVar(&o.OnProxy, "on-proxy", false, "end the proxy's work for all hosts of this client")
	c.Flags().BoolVar(&o.Local, "local", false, "do not ask the proxy, which then continues to renew it")
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

func forget(c *cobra.Command, s *remote.State, args []string, file string, o remote.ForgetOptions) (done forgotten, err error) {
	found, err := s.Select(splitCommas(args))
	unknown := new(remote.UnknownNameError)
	switch {
	case errors.As(err, &unknown):
		remedy := "run acmeproxy remote list to see all"
		if len(unknown.Covering) > 0 {
			remedy = "run acmeproxy remote forget with that stored name"
		}
		err = fmt.Errorf("%w; %s", err, remedy)
		if o.OnProxy {
			return forgetAtProxy(c, s, args, err)
		}
		return done, err
	case err != nil:
		return done, usageError{err}
	}
	for _, k := range found {
		if err := checkNotListed(s, k, file); err != nil {
			return done, err
		}
	}
	for _, k := range found {
		one, err := s.Forget(c.Context(), k, o)
		if err != nil {
			return done, err
		}
		done.Names = slices.Concat(done.Names, k.Names)
		slices.Sort(done.Names)
		done.Names = slices.Compact(done.Names)
		done.Modes = append(done.Modes, k.Mode)
		done.Certificates = append(done.Certificates, one)
	}
	return done, nil
}

// forgetAtProxy ends the proxy's work for a certificate that this host has forgotten
// already.
func forgetAtProxy(c *cobra.Command, s *remote.State, args []string, unknown error) (done forgotten, err error) {
	names, err := cert.ParseNames(splitCommas(args)...)
	if err != nil {
		return done, usage("names: %w", err)
	}
	client, err := s.API()
	if err != nil {
		return done, err
	}
	all, err := client.Certificates(c.Context())
	if err != nil {
		return done, err
	}
	for _, m := range all {
		if !slices.Equal(m.Names, names) {
			continue
		}
		if err := client.Delete(c.Context(), m.ID, true); err != nil {
			return done, err
		}
		return forgotten{Names: names, Modes: []clients.Mode{clients.ModeAgent}, Certificates: []remote.Forgotten{{
			Names: names, Mode: clients.ModeAgent, Proxy: remote.ProxyEnded,
		}}}, nil
	}
	return done, fmt.Errorf("%w; the proxy has no such certificate either", unknown)
}

func printForgotten(c *cobra.Command, s *remote.State, done forgotten, o remote.ForgetOptions) error {
	for _, one := range done.Certificates {
		if _, err := printf(c, "%s, %s mode, is no longer renewed here\n", one.Names, one.Mode); err != nil {
			return err
		}
		if one.Out != "" && certfile.HasSet(one.Out) {
			printf(c, "its files are still in %s\n", one.Out)
		}
		switch {
		case one.Proxy == remote.ProxyEnded && o.OnProxy:
			printf(c, "the proxy no longer renews it, until another host of client %q asks for it again\n", s.Client())
		case one.Proxy == remote.ProxyEnded:
			printf(c, "the proxy no longer renews it\n")
		case one.Proxy == remote.ProxyShared:
			printf(c, "the proxy continues to renew it for the other hosts of client %q; to end that, run acmeproxy remote forget %s --on-proxy\n",
				s.Client(), strings.Join(one.Names, " "))
		case one.Proxy == remote.ProxyKept:
			printf(c, "the proxy continues to renew it\n")
		}
	}
	return nil
}
