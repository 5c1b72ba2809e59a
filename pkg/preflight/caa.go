package preflight

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
)

// caa checks whether the CA may issue (RFC 8659).
func (c *Checker) caa(ctx context.Context, name string, authority func() (Authority, error)) Check {
	at, set, err := c.relevant(ctx, strings.TrimPrefix(name, "*."))
	if err != nil {
		return c.verdictOnCAALookup(err)
	}
	if len(set) == 0 {
		return Check{Check: CAA, Verdict: OK, Detail: "no CAA records: any CA may issue"}
	}
	check := set.verdict(at, cert.IsWildcard(name), c.method(name), authority)
	check.Check = CAA
	return check
}

func (c *Checker) verdictOnCAALookup(err error) Check {
	var refused *dnsquery.RcodeError
	if errors.As(err, &refused) && refused.Rcode == dns.RcodeServerFailure {
		return Check{
			Check: CAA, Verdict: Fails, Detail: "the lookup of CAA records fails: " + err.Error(),
			Remedy: "fix the zone's DNS servers or its DNSSEC; a CA must not issue when it cannot look up CAA records",
		}
	}
	return Check{Check: CAA, Verdict: NotChecked, Detail: err.Error(), Remedy: "use another resolver with " + c.cfg.ResolverSetting, By: ProxyAdmin}
}

// caaSet is a relevant resource record set.
type caaSet []*dns.CAA

// relevant returns the CAA records of the name or of its nearest ancestor that has some
// (RFC 8659, section 3). The resolver follows aliases.
func (c *Checker) relevant(ctx context.Context, name string) (at string, set caaSet, err error) {
	for at := name; at != ""; {
		records, err := c.ask(ctx, at, dns.TypeCAA)
		if ignoreNoSuchName(err) != nil {
			return at, nil, err
		}
		for _, rr := range records {
			if caa, ok := rr.(*dns.CAA); ok {
				set = append(set, caa)
			}
		}
		if len(set) > 0 {
			return at, set, nil
		}
		_, at, _ = strings.Cut(at, ".")
	}
	return "", nil, nil
}

// verdict reports whether the set lets the CA issue.
func (set caaSet) verdict(at string, wildcard bool, method string, authority func() (Authority, error)) Check {
	for _, r := range set {
		if r.Flag&0x80 != 0 && !slices.Contains([]string{"issue", "issuewild", "iodef"}, strings.ToLower(r.Tag)) {
			return Check{
				Verdict: Fails, Detail: fmt.Sprintf("the CAA record %s of %s is critical, and CAs may not know it", quote(r.Tag), at),
				Remedy: "clear its critical flag, or remove the record",
			}
		}
	}
	tag, values := set.properties(wildcard)
	if len(values) == 0 {
		return Check{Verdict: OK, Detail: "the CAA records of " + at + " restrict no CA"}
	}
	ca, err := authority()
	if err != nil {
		return Check{
			Verdict: NotChecked, Detail: "the CA's directory cannot be read: " + err.Error(),
			Remedy: "connect the proxy's host to the CA, then check again", By: ProxyAdmin,
		}
	}
	if len(ca.Identities) == 0 {
		return Check{
			Verdict: NotChecked, Detail: fmt.Sprintf("%s has CAA records, and the CA does not state the name that allows it: %s", at, quoted(values)),
			Remedy: "compare them with the CA's documentation",
		}
	}
	return judge(at, tag, values, ca, method)
}

// properties returns the values that decide. For a wildcard, issuewild overrides issue
// (RFC 8659, section 4.3).
func (set caaSet) properties(wildcard bool) (tag string, values []string) {
	valuesOf := func(tag string) (values []string) {
		for _, r := range set {
			if strings.EqualFold(r.Tag, tag) {
				values = append(values, r.Value)
			}
		}
		return values
	}
	if wildcard {
		if values := valuesOf("issuewild"); len(values) > 0 {
			return "issuewild", values
		}
	}
	return "issue", valuesOf("issue")
}

// judge returns the verdict on a record that lets the CA issue, or else on the one that
// comes nearest.
func judge(at, tag string, values []string, ca Authority, method string) Check {
	record := fmt.Sprintf(`%s CAA 0 %s "%s"`, at, tag, ca.Identities[0])
	nearest := Check{
		Verdict: Fails, Detail: fmt.Sprintf("the CAA records of %s do not let this CA issue: %s", at, quoted(values)),
		Remedy: "add the record: " + record,
	}
	for _, value := range values {
		domain, params, ok := parseIssue(value)
		if !ok || !slices.ContainsFunc(ca.Identities, func(id string) bool { return strings.EqualFold(id, domain) }) {
			continue
		}
		check := verdictOnParameters(at, value, params, ca, method)
		if check.Verdict == OK {
			return check
		}
		if nearest.Verdict == Fails { // any other verdict says more
			nearest = check
		}
	}
	return nearest
}

// verdictOnParameters returns the verdict on a record of the right CA (RFC 8657).
func verdictOnParameters(at, value string, params []parameter, ca Authority, method string) Check {
	where := fmt.Sprintf("the CAA record of %s, %s,", at, quote(value))
	methods, many := single(params, "validationmethods")
	if many || methods != nil && !slices.Contains(strings.Split(*methods, ","), method) {
		return Check{
			Verdict: Fails, Detail: where + " does not allow " + method,
			Remedy: "add " + method + " to its validationmethods, which are separated by commas",
		}
	}
	account, many := single(params, "accounturi")
	switch {
	case many:
		return Check{Verdict: Fails, Detail: where + " names more than one account, which allows none", Remedy: "use one record for each account"}
	case account == nil, *account == ca.AccountURL:
		return Check{Verdict: OK, Detail: where + " lets this CA issue"}
	case ca.AccountURL == "":
		return Check{
			Verdict: Warning, Detail: where + " is for one account, and this proxy has none yet",
			Remedy: "order a certificate, which registers the account; then check again for its URL, and add a record with it",
		}
	}
	return Check{
		Verdict: Fails, Detail: where + " is for another account",
		Remedy: "add a record with accounturi=" + ca.AccountURL,
	}
}

type parameter struct{ tag, value string }

// single returns the value of a parameter, or nil unless it occurs exactly once. many
// reports whether it occurs more than once.
func single(params []parameter, tag string) (value *string, many bool) {
	for _, p := range params {
		if strings.EqualFold(p.tag, tag) {
			if value != nil {
				return nil, true
			}
			value = &p.value
		}
	}
	return value, false
}

const (
	blank   = " \t"
	alnum   = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
	alnumHy = alnum + "-"
)

// parseIssue parses the value of an issue or issuewild property (RFC 8659, section
// 4.2). A malformed value allows no CA, like one without a domain.
func parseIssue(value string) (domain string, params []parameter, ok bool) {
	domain, rest, more := strings.Cut(value, ";")
	domain = strings.Trim(domain, blank)
	if strings.Trim(domain, alnumHy+".") != "" {
		return "", nil, false
	}
	if !more || strings.Trim(rest, blank) == "" {
		return domain, nil, true
	}
	for p := range strings.SplitSeq(rest, ";") {
		tag, value, found := strings.Cut(strings.Trim(p, blank), "=")
		tag, value = strings.Trim(tag, blank), strings.Trim(value, blank)
		if !found || tag == "" || strings.Trim(tag, alnumHy) != "" || strings.ContainsFunc(value, notInValue) {
			return "", nil, false
		}
		params = append(params, parameter{tag, value})
	}
	return domain, params, true
}

// notInValue reports whether a parameter's value may not contain r.
func notInValue(r rune) bool { return r < 0x21 || r > 0x7e || r == ';' }

func quoted(values []string) string {
	const most = 5
	var all []string
	for _, v := range values[:min(len(values), most)] {
		all = append(all, quote(v))
	}
	if len(values) > most {
		all = append(all, "…")
	}
	return strings.Join(all, ", ")
}
