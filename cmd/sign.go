package cmd

import (
	"cmp"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/acmeproxy/acmeproxy/pkg/acmems"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

func newSign() *cobra.Command {
	c := &cobra.Command{
		Use:   "sign",
		Short: "Check a configuration of ACMEMS",
		Args:  subcommand,
		RunE:  showHelp,
	}
	c.AddCommand(newSignCheck())
	return c
}

func newSignCheck() *cobra.Command {
	var asJSON bool
	c := &cobra.Command{
		Use:   "check FILE",
		Short: "Show what each block of an ACMEMS configuration allows",
		Long: `check reads the INI file of an ACMEMS server and shows who may have which
certificates by it, with its defaults. It reports what is ignored as a warning, and
each fault with its line. It contacts no CA and changes nothing.

Some things differ from ACMEMS on purpose. Most make it stricter:

  - An [auth] block with domains and without a method is a fault. ACMEMS allows its
    names to everyone.
  - An HMAC without a key is a fault, and so is a method behind an unknown option.
    ACMEMS ignores that option and the rest of its block.
  - IP addresses, e-mail addresses and URIs in a CSR are refused. ACMEMS ignores them.
  - max-size = 16k is 16384 bytes. ACMEMS reads the first digit only.
  - The keys mgmt and accept-terms-of-service work as the README of ACMEMS shows them.
  - default-storage counts although there are several storages.
  - Domains match without regard to case.
  - Plugins are a fault, because they are Python code.`,
		Example: "  acmeproxy sign check /etc/acmems/acmems.ini",
		Args:    oneArg("FILE"),
		RunE: func(c *cobra.Command, args []string) error {
			rules, err := readRules(c, args[0])
			if err != nil {
				return err
			}
			if asJSON {
				return printJSON(c.OutOrStdout(), wireRules(rules))
			}
			return printRules(c, rules)
		},
	}
	c.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return c
}

// readRules reads a configuration of ACMEMS and prints its warnings. Each fault of the
// file is a line of the error.
func readRules(c *cobra.Command, file string) (*acmems.Config, error) {
	text, err := localfile.ReadAny(file)
	if err != nil {
		return nil, usageError{fmt.Errorf("read the configuration: %w", err)}
	}
	rules, err := acmems.Parse(text)
	if err != nil {
		var lines []error
		for fault := range strings.Lines(err.Error()) {
			lines = append(lines, fmt.Errorf("%s: %s", file, strings.TrimSpace(fault)))
		}
		return nil, usageError{errors.Join(lines...)}
	}
	for _, w := range rules.Warnings {
		warn(c, file+": "+w.Error())
	}
	return rules, nil
}

func printRules(c *cobra.Command, r *acmems.Config) error {
	terms := "not accepted"
	if r.Account.AcceptTerms {
		terms = "accepted"
	} else if len(r.Account.Terms) > 0 {
		terms = "accepted if they are " + strings.Join(r.Account.Terms, " or ")
	}
	printf(c, "CA          %s\nterms       %s\naccount     %s\n", r.Account.Directory, terms, r.Account.Dir)
	printf(c, "listeners   %s\nlargest CSR %d bytes\n", cmp.Or(list(addresses(r.Listeners), " "), "none"), r.MaxSize)
	for _, v := range r.Verifications {
		printf(c, "verification %s: %s\n", v.Name, describe(v))
	}
	if len(r.Blocks) == 0 {
		warn(c, "no [auth] block, so nothing is allowed")
		return nil
	}
	printf(c, "\nThe first block that fits decides:\n")
	t := newTable(c.OutOrStdout(), "BLOCK", "CALLERS", "NAMES", "VERIFICATION", "CACHE")
	for _, b := range r.Blocks {
		t.row(b.Name, callers(&b), list(b.Domains(), " "), b.Verification.Name, cached(b.Storage))
	}
	return t.flush()
}

func addresses(all []acmems.Listener) []string {
	texts := make([]string, 0, len(all))
	for _, l := range all {
		texts = append(texts, l.Address())
	}
	return texts
}

func describe(v acmems.Verification) string {
	switch v.Kind {
	case acmems.DNS01Update:
		return "DNS-01 by updates of " + strings.Join(v.Update.Servers, " ")
	case acmems.HTTP01:
		return "HTTP-01 at " + cmp.Or(list(addresses(v.Listeners), " "), "no port of its own")
	}
	return string(v.Kind) + ", for tests only"
}

// callers describes who passes the methods of a block.
func callers(b *acmems.Block) string {
	text := list(b.Networks(), " ")
	if kind := b.HMAC(); kind != "" {
		text = strings.TrimPrefix(text+" and HMAC "+string(kind), " and ")
	}
	return cmp.Or(text, "everyone")
}

func cached(s acmems.Storage) string {
	if s.Dir == "" {
		return ""
	}
	return s.Dir + ", until " + strconv.Itoa(int(s.RenewWithin/(24*time.Hour))) + " days before the end"
}

// signRules is the JSON of sign check.
type signRules struct {
	CA            string             `json:"ca"`
	AcceptTerms   bool               `json:"accept_terms"`
	Terms         []string           `json:"terms"`
	AccountDir    string             `json:"account_dir"`
	Listeners     []string           `json:"listeners"`
	MaxSize       int                `json:"max_size"`
	Verifications []signVerification `json:"verifications"`
	Blocks        []signBlock        `json:"blocks"`
	Warnings      []signWarning      `json:"warnings"`
}

type signVerification struct {
	Name      string   `json:"name"`
	Type      string   `json:"type"`
	Listeners []string `json:"listeners"`
	Servers   []string `json:"servers"`
}

type signBlock struct {
	Name         string   `json:"name"`
	Line         int      `json:"line"`
	Networks     []string `json:"networks"` // empty: any
	HMAC         string   `json:"hmac"`     // empty: not required
	Domains      []string `json:"domains"`  // empty: it allows nothing
	Verification string   `json:"verification"`
	Storage      string   `json:"storage"`
	Cache        string   `json:"cache"` // folder; empty: no cache
	RenewWithin  int      `json:"renew_within_days"`
}

type signWarning struct {
	Line int    `json:"line"`
	Text string `json:"text"`
}

func wireRules(r *acmems.Config) signRules {
	w := signRules{
		CA: r.Account.Directory, AcceptTerms: r.Account.AcceptTerms, Terms: present(r.Account.Terms),
		AccountDir: r.Account.Dir, Listeners: addresses(r.Listeners), MaxSize: r.MaxSize,
		Verifications: []signVerification{}, Blocks: []signBlock{}, Warnings: []signWarning{},
	}
	for _, v := range r.Verifications {
		w.Verifications = append(w.Verifications, signVerification{
			Name: v.Name, Type: string(v.Kind), Listeners: addresses(v.Listeners), Servers: present(v.Update.Servers),
		})
	}
	for _, b := range r.Blocks {
		w.Blocks = append(w.Blocks, signBlock{
			Name: b.Name, Line: b.Line, Networks: present(b.Networks()), HMAC: string(b.HMAC()), Domains: present(b.Domains()),
			Verification: b.Verification.Name, Storage: b.Storage.Name, Cache: b.Storage.Dir,
			RenewWithin: int(b.Storage.RenewWithin / (24 * time.Hour)),
		})
	}
	for _, p := range r.Warnings {
		w.Warnings = append(w.Warnings, signWarning{p.Line, p.Text})
	}
	return w
}

// present returns an empty list for a missing one, which is [] in JSON.
func present(all []string) []string {
	if all == nil {
		return []string{}
	}
	return all
}
