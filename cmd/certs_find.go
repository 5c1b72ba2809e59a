package cmd

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// certificateID matches the IDs of managed certificates, which no name can have.
var certificateID = regexp.MustCompile(`^[a-z2-7]{26}$`)

// certificate connects to the proxy and returns the ID of the certificate that arg
// describes.
func (f *adminFlags) certificate(c *cobra.Command, arg string) (*admin.Admin, string, error) {
	if slices.ContainsFunc(strings.Split(arg, ","), func(name string) bool { return strings.TrimSpace(name) == "" }) {
		// An empty name would select all certificates.
		return nil, "", usage("%s needs an ID or a name, but got %q; run acmeproxy certs list to see all", c.CommandPath(), arg)
	}
	a, err := f.dial(c)
	if err != nil || certificateID.MatchString(arg) {
		return a, arg, err
	}
	found, err := findCertificates(c, a, arg)
	switch {
	case err != nil:
		return nil, "", err
	case len(found) == 0:
		return nil, "", fmt.Errorf("no certificate has the name %q; run acmeproxy certs list to see all", arg)
	case len(found) > 1:
		return nil, "", ambiguous(arg, found)
	}
	return a, found[0].ID, nil
}

// details connects to the proxy and returns the certificate that arg describes.
func (f *adminFlags) details(c *cobra.Command, arg string) (a *admin.Admin, d admin.CertificateDetails, err error) {
	a, id, err := f.certificate(c, arg)
	if err == nil {
		d, err = a.Certificate(c.Context(), id)
	}
	return a, d, err
}

// findCertificates returns the certificates with a name, or with exactly the names that
// commas join. If one of several has only this name, or is called so, it is meant.
func findCertificates(c *cobra.Command, a *admin.Admin, arg string) ([]admin.Certificate, error) {
	names := strings.Split(arg, ",")
	for i, name := range names {
		names[i] = canonicalName(strings.TrimSpace(name))
	}
	slices.Sort(names)
	found, err := a.Certificates(c.Context(), admin.CertificateQuery{Name: names[0]})
	if err != nil {
		return nil, err
	}
	// Whatever the answer is, no command acts on a certificate without this name.
	found = slices.DeleteFunc(found, func(m admin.Certificate) bool {
		return m.Name != names[0] && !slices.Contains(m.Names, names[0])
	})
	exact := slices.DeleteFunc(slices.Clone(found), func(m admin.Certificate) bool {
		return !slices.Equal(slices.Sorted(slices.Values(m.Names)), names) && (len(names) > 1 || m.Name != names[0] || m.NotConfigured)
	})
	if len(exact) == 1 || len(names) > 1 {
		return exact, nil
	}
	return found, nil
}

// canonicalName returns the canonical form of a name, or a stored name as it is.
func canonicalName(name string) string {
	if canonical, err := cert.ParseName(name); err == nil {
		return canonical
	}
	return name
}

// ambiguous returns the error for a name of several certificates.
func ambiguous(arg string, found []admin.Certificate) error {
	const most = 20
	var lines strings.Builder
	printable.Fprintf(&lines, "%d certificates have the name %q; use the ID of one of them:\n", len(found), arg)
	for i, m := range found {
		if i == most {
			printable.Fprintf(&lines, "… and %d more\n", len(found)-most)
			break
		}
		owner := "this host"
		if m.Client != "" {
			owner = "client " + m.Client
		}
		printable.Fprintf(&lines, "%s  %s: %s\n", m.ID, owner, list(m.Names, " "))
	}
	return usage("%s", strings.TrimSuffix(lines.String(), "\n"))
}
