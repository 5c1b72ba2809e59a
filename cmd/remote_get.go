package cmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// getFlags holds the flags of get.
type getFlags struct {
	remoteFlags
	name, mode, out, keyType, hook, profile string

	layout                       certfile.Layout
	renew, expand, force, asJSON bool
}

func newGet() *cobra.Command {
	var flags getFlags
	c := &cobra.Command{
		Use:   "get NAME…",
		Short: "Get one certificate for all these names, and renew it from then on",
		Long: `get writes a certificate to this host now, as cert.pem, chain.pem, fullchain.pem
and privkey.pem in one folder. From then on "acmeproxy remote run" renews it,
until "acmeproxy remote forget". A later get of the same names uses the earlier
values of the options that you do not give.

If the certificate on the disk is good and not due for renewal, get orders none.
--renew requests a new key and certificate nevertheless, for example after a theft.
In agent mode the proxy allows this once an hour.

Each certificate has a stored name, by default the first name that you give. With
other names under the same stored name, get asks whether it may replace the names
of that certificate; --expand does so without a question. The folder stays the same,
and the old certificate stays until the new one is there. --name chooses another
stored name, for a certificate of its own.

A folder belongs to one certificate. get refuses a folder of another one, or with
files of another program, such as certbot. With --force, it keeps a copy of such
files and replaces them.

--format adds files for HAProxy (haproxy.pem) and others (bundle.p12, PKCS#12).
--format pem removes them again. All files change together.

agent    the proxy obtains and renews it, even while this host is
         offline, and seals it so that only this host can open it
gateway  the key is created here and never leaves this host; the proxy
         passes the certificate on and stores nothing; this host renews

The modes' full names, certificate-agent and acme-gateway, are accepted too.`,
		Example: `  acmeproxy remote get web1.example.com --out /etc/ssl/web1
  acmeproxy remote get web1.example.com www.web1.example.com --mode gateway --hook 'systemctl reload nginx'
  acmeproxy remote get web1.example.com www.example.com --expand
  acmeproxy remote get web1.example.com --renew`,
		Args: someArgs("NAME"),
		RunE: func(c *cobra.Command, args []string) error {
			s, err := flags.open(c)
			if err != nil {
				return err
			}
			w, err := flags.wanted(c, args)
			if err != nil {
				return err
			}
			if w.Name, err = storedName(s, flags.name); err != nil {
				return err
			}
			return get(c, s, w, &flags)
		},
	}
	flags.bind(c.Flags())
	fs := c.Flags()
	fs.StringVar(&flags.name, "name", "", "stored `name` of the certificate (default the first NAME)")
	fs.StringVar(&flags.mode, "mode", "", "`mode`: agent or gateway (default the mode that the proxy allows this host, agent if both)")
	fs.StringVar(&flags.out, "out", "", "`folder` for the files (default certs/NAME in the state directory)")
	fs.StringVar(&flags.keyType, "key-type", string(cert.EC256), "`type` of the key: ec256, ec384, rsa2048, rsa4096, rsa8192")
	fs.StringVar(&flags.profile, "profile", "", "the CA's `profile`, such as shortlived (default the CA's)")
	fs.StringVar(&flags.hook, "hook", "", "shell `command` to run after the files change, now and at each renewal")
	fs.BoolVar(&flags.renew, "renew", false, "request a new key and certificate, even if the present ones are not due")
	fs.BoolVar(&flags.expand, "expand", false, "replace the names of the certificate with that stored name")
	fs.BoolVar(&flags.force, "force", false, "take the folder from another installation or program; keep a copy of its files")
	layoutFlags(fs, &flags.layout)
	fs.BoolVar(&flags.asJSON, "json", false, "print JSON")
	return c
}

// wanted returns what the arguments and flags ask for.
func (f *getFlags) wanted(c *cobra.Command, args []string) (w remote.Wanted, err error) {
	names := splitCommas(args)
	if err := notBlankFlags(c, "out", "name", "mode"); err != nil {
		return w, err
	}
	if w, err = wanted(names, f.mode, f.out, f.keyType, f.hook, f.profile); err != nil {
		return w, err
	}
	if w.First, err = cert.ParseName(names[0]); err != nil {
		return w, usage("names: %w", err)
	}
	if f.out != "" {
		if err := certfile.CheckFolder(w.Out); err != nil {
			return w, usage("out: %w", err)
		}
	}
	w.Layout = f.layout
	if w.PKCS12PasswordFile != "" {
		w.PKCS12PasswordFile, err = filepath.Abs(w.PKCS12PasswordFile)
	}
	return w, err
}

// wanted checks the flags or settings of a certificate. Relative paths start at the
// working directory. Mode and folder stay empty if they are not given.
func wanted(args []string, mode, out, keyType, hookCommand, profile string) (w remote.Wanted, err error) {
	if w.Names, err = cert.ParseNames(splitCommas(args)...); err != nil {
		return w, usage("names: %w", err)
	}
	if w.KeyType, err = cert.ParseKeyType(keyType); err != nil {
		return w, usage("key-type: %w", err)
	}
	if out != "" {
		if w.Out, err = filepath.Abs(out); err != nil {
			return w, err
		}
	}
	w.Mode, w.Hook, w.Profile = clients.Mode(mode).Canonical(), hookCommand, profile
	return w, nil
}

// asBefore returns w with the options that were not given now set to those of the
// last get. Repeating a get must not move its files or drop its hook.
func asBefore(c *cobra.Command, last *remote.Kept, w remote.Wanted) remote.Wanted {
	for flag, take := range map[string]func(){
		"hook":     func() { w.Hook = last.Hook },
		"key-type": func() { w.KeyType = last.KeyType },
		"profile":  func() { w.Profile = last.Profile },
		"format":   func() { w.Formats = last.Formats },
		"owner":    func() { w.Owner = last.Owner },
		"key-mode": func() { w.KeyMode = last.KeyMode },

		"pkcs12-password-file": func() { w.PKCS12PasswordFile = last.PKCS12PasswordFile },
	} {
		f := c.Flags().Lookup(flag)
		if !f.Changed && f.Value.String() == f.DefValue { // not set in the environment or the file either
			take()
		}
	}
	return w
}

func splitCommas(args []string) []string {
	var names []string
	for _, a := range args {
		names = append(names, strings.Split(a, ",")...)
	}
	return names
}

func get(c *cobra.Command, s *remote.State, w remote.Wanted, f *getFlags) error {
	have, name, err := s.Find(w)
	if errors.As(err, new(*remote.AmbiguousError)) {
		return usage("%w, with --name", err)
	}
	if err != nil {
		return err
	}
	if err := f.checkExpand(s, have, w); err != nil {
		return err
	}
	if w, err = f.complete(c, s, have, w, name); err != nil {
		return err
	}
	o := remote.GetOptions{Renew: f.renew, Replace: f.expand, Force: f.force, Copied: func(path string) { printErrf(c, "kept a copy: %s\n", path) }}
	if have != nil && !have.Names.Equal(w.Names) && !f.expand {
		if err := confirmNames(c, have, w); err != nil {
			return err
		}
		o.Replace = true
	}
	k, err := getWith(c, s, w, o)
	if err != nil {
		return err
	}
	if have != nil && have.Out != k.Out {
		warn(c, fmt.Sprintf("the files in %s are no longer updated; use those in %s", have.Out, k.Out))
	}
	if f.asJSON {
		return printJSON(c.OutOrStdout(), k.Report())
	}
	if k.IsUnchanged() {
		_, err = printf(c, "%s: certificate %s, valid until %s, is not due for renewal; --renew forces a new one\nfiles in %s\n",
			strings.Join(k.Names, " "), k.Serial, moment(k.NotAfter), k.Out)
		return err
	}
	_, err = printf(c, "%s: certificate %s, valid until %s\nfiles in %s\n",
		strings.Join(k.Names, " "), k.Serial, moment(k.NotAfter), k.Out)
	return err
}

// complete returns w with the values that the certificate have, or the entry of the
// daemon's file, has already. name is its stored name.
func (f *getFlags) complete(c *cobra.Command, s *remote.State, have *remote.Kept, w remote.Wanted, name string) (remote.Wanted, error) {
	if have == nil {
		e, err := f.pendingEntry(s, w, name)
		if err != nil {
			return w, err
		}
		if e != nil {
			return e.asListed(c, s, w)
		}
	}
	w.Name = name
	if have != nil {
		w = asBefore(c, have, w)
	}
	w = s.Complete(w, have)
	if err := w.Validate(); err != nil {
		return w, usageError{err}
	}
	if have == nil {
		return w, nil
	}
	return w, checkEntry(s, have, w, remoteConfigFile(f.config))
}

// checkExpand refuses --expand if another certificate has the names already, and the
// default name means a second one.
func (f *getFlags) checkExpand(s *remote.State, have *remote.Kept, w remote.Wanted) error {
	if !f.expand || f.name != "" || have == nil || !have.Names.Equal(w.Names) {
		return nil
	}
	named, _, err := s.Find(remote.Wanted{Name: cert.StoredName(w.First)})
	if err != nil || named == nil || named.Name == have.Name {
		return err
	}
	return usage("names: the certificate %q covers these names already; use --name %s to give them to the certificate of that name, too, or leave out --expand",
		have.Name, named.Name)
}

// storedName returns the stored name that --name means: that of a certificate of this
// host, or else in canonical form.
func storedName(s *remote.State, given string) (string, error) {
	if given == "" {
		return "", nil
	}
	have, _, err := s.Find(remote.Wanted{Name: given})
	if err != nil || have != nil {
		return given, err
	}
	if canonical, err := cert.ParseName(given); err == nil {
		given = cert.StoredName(canonical)
	}
	if err := cert.CheckStoredName(given); err != nil {
		return "", usage("name: %w", err)
	}
	return given, nil
}

// isSame reports whether two requests want the same certificate and files.
func isSame(a, b remote.Wanted) bool {
	for _, w := range []*remote.Wanted{&a, &b} {
		w.First, w.Source, w.Out = "", "", filepath.Clean(w.Out)
		if len(w.Formats) == 0 {
			w.Formats = nil
		}
	}
	return reflect.DeepEqual(a, b)
}

// confirmNames asks whether the names of a certificate may be replaced.
func confirmNames(c *cobra.Command, have *remote.Kept, w remote.Wanted) error {
	const remedy = "use --expand to replace its names, or --name OTHER for a certificate of its own"
	if !atTerminal(c) {
		return usage("names: the certificate %q in %s covers %s, not %s; %s",
			have.Name, have.Out, strings.Join(have.Names, " "), strings.Join(w.Names, " "), remedy)
	}
	err := confirm(c, false, "the certificate %q in %s covers %s; replace it by one for %s?",
		have.Name, have.Out, strings.Join(have.Names, " "), strings.Join(w.Names, " "))
	if errors.Is(err, errNotConfirmed) {
		return errors.New("not confirmed, nothing was changed; " + remedy)
	}
	return err
}

func getWith(c *cobra.Command, s *remote.State, w remote.Wanted, o remote.GetOptions) (*remote.Kept, error) {
	events := len(w.Names) + 5 // for a gateway; see acme.Stage
	if w.Mode.IsUnattended() {
		events = 2
	}
	warn(c, w.Risk())
	if rel, err := filepath.Rel(s.Dir, w.Out); w.Owner != "" && err == nil && filepath.IsLocal(rel) {
		warn(c, "owner: no other user can enter the state directory, which holds the files; set --out to a folder elsewhere")
	}
	p := newProgress(c.ErrOrStderr(), w.Names[0], events)
	g, err := s.Getter(p.event)
	if err != nil {
		return nil, err
	}
	k, err := g.GetWith(c.Context(), w, o)
	p.done()
	if k != nil {
		for _, shared := range k.StillShared() {
			warn(c, shared.Error()+"; "+remoteRemedy(shared, "", ""))
		}
	}
	return k, err
}
