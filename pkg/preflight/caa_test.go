package preflight_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/pkg/preflight"
)

// CAA records are found as RFC 8659 says and read as RFC 8657 does (X13).
func TestCAA(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		ask     string
		records []string
		verdict preflight.Verdict
		texts   []string
	}{
		"none":                  {"web1.a.test", nil, preflight.OK, []string{"any CA"}},
		"own":                   {"web1.a.test", []string{`web1.a.test. CAA 0 issue "ca.test"`}, preflight.OK, []string{"web1.a.test", "ca.test"}},
		"case and second name":  {"web1.a.test", []string{`web1.a.test. CAA 0 ISSUE " Other-Name.CA.test ; "`}, preflight.OK, nil},
		"parent":                {"web1.a.test", []string{`a.test. CAA 0 issue "other.test"`}, preflight.Fails, []string{"a.test", "other.test", `a.test CAA 0 issue "ca.test"`}},
		"own before parent":     {"web1.a.test", []string{`a.test. CAA 0 issue "other.test"`, `web1.a.test. CAA 0 issue "ca.test"`}, preflight.OK, nil},
		"top level":             {"web1.a.test", []string{`test. CAA 0 issue ";"`}, preflight.Fails, []string{"the CAA records of test "}},
		"no parent of an alias": {"web1.a.test", []string{`web1.a.test. CNAME x.b.test.`, `x.b.test. A 127.0.0.1`, `b.test. CAA 0 issue "other.test"`}, preflight.OK, []string{"any CA"}},
		"target of an alias":    {"web1.a.test", []string{`web1.a.test. CNAME x.b.test.`, `x.b.test. CAA 0 issue "other.test"`}, preflight.Fails, nil},
		"no CA":                 {"web1.a.test", []string{`a.test. CAA 0 issue ";"`}, preflight.Fails, nil},
		"one of several":        {"web1.a.test", []string{`a.test. CAA 0 issue ";"`, `a.test. CAA 0 issue "other.test"`, `a.test. CAA 0 issue "ca.test"`}, preflight.OK, nil},
		"no issue property":     {"web1.a.test", []string{`a.test. CAA 0 iodef "mailto:x@a.test"`}, preflight.OK, []string{"restrict no CA"}},
		"critical, unknown":     {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test"`, `a.test. CAA 128 future "x"`}, preflight.Fails, []string{"future", "critical"}},
		"critical, known":       {"web1.a.test", []string{`a.test. CAA 128 issue "ca.test"`}, preflight.OK, nil},
		"malformed":             {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; %%"`}, preflight.Fails, nil},
		"method":                {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; validationmethods=dns-01,http-01"`}, preflight.OK, nil},
		"wrong method":          {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; validationmethods=dns-01"`}, preflight.Fails, []string{"does not allow http-01"}},
		"account":               {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/1"`}, preflight.OK, nil},
		"another account":       {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/2"`}, preflight.Fails, []string{"accounturi=https://ca.test/acct/1"}},
		"two accounts in one":   {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/1; accounturi=https://ca.test/acct/2"`}, preflight.Fails, []string{"one record for each"}},
		"account of two":        {"web1.a.test", []string{`a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/2"`, `a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/1"`}, preflight.OK, nil},
		"issuewild is not ours": {"web1.a.test", []string{`a.test. CAA 0 issuewild ";"`}, preflight.OK, []string{"restrict no CA"}},
		"wildcard":              {"*.a.test", []string{`a.test. CAA 0 issue "other.test"`, `a.test. CAA 0 issuewild "ca.test"`}, preflight.OK, nil},
		"wildcard by issue":     {"*.a.test", []string{`a.test. CAA 0 issue "ca.test"`}, preflight.OK, nil},
		"no wildcard":           {"*.a.test", []string{`a.test. CAA 0 issue "ca.test"`, `a.test. CAA 0 issuewild ";"`}, preflight.Fails, []string{`CAA 0 issuewild "ca.test"`}},
		"wildcard by http-01":   {"*.a.test", []string{`a.test. CAA 0 issue "ca.test; validationmethods=http-01"`}, preflight.Fails, []string{"does not allow dns-01"}},
		"terminal":              {"web1.a.test", []string{`a.test. CAA 0 issue "\027[31m\010"`}, preflight.Fails, []string{`"\x1b[31m\n"`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, startZone(t, nil, c.records...))
			w.web(t, w.responder)
			r := w.run(t, c.ask).Names[0]
			wants(t, name, only(t, r, preflight.CAA), c.verdict, c.texts...)
			if c.records == nil && w.asked != 0 {
				t.Error("the CA was asked though there is no CAA record")
			}
			if c.ask == "*.a.test" {
				wants(t, name, only(t, r, preflight.HTTP), preflight.NotChecked, "dns-01")
			}
		})
	}
}

// What cannot be known is not called a failure, and what a CA would refuse is
// (X13).
func TestCAAUnknown(t *testing.T) {
	t.Parallel()
	addr := startZone(t, map[string]int{"b.test. CAA": dns.RcodeServerFailure},
		`a.test. CAA 0 issue "ca.test; accounturi=https://ca.test/acct/1"`)
	w := newWorld(t, addr)
	w.web(t, w.responder)
	caa := func(name string) preflight.Check { return only(t, w.run(t, name).Names[0], preflight.CAA) }

	wants(t, "SERVFAIL", caa("web1.b.test"), preflight.Fails, "SERVFAIL", "must not issue")
	w.authority.AccountURL = ""
	wants(t, "not registered", caa("web1.a.test"), preflight.Warning, "none yet")
	w.authority.Identities = nil
	wants(t, "no identities", caa("web1.a.test"), preflight.NotChecked, "does not state")
	w.cfg.CA = func(context.Context) (preflight.Authority, error) {
		return preflight.Authority{}, errors.New("the CA is down")
	}
	wants(t, "no directory", caa("web1.a.test"), preflight.NotChecked, "the CA is down")
}

// No CAA record breaks the parser.
func FuzzParseIssue(f *testing.F) {
	for _, s := range []string{"", ";", "ca.test", " ca.test ; a = b;c=d ", "ca.test;;", "ca.test; a", "\x00;\xff=", "ca.test; accounturi=https://ca.test/a?b=c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		domain, params, ok := preflight.ParseIssue(s)
		if !ok && (domain != "" || params != 0) {
			t.Errorf("%q: %q and %d parameters of a malformed value", s, domain, params)
		}
		if len(domain) > len(s) || params > len(s) {
			t.Errorf("%q: more came out than went in", s)
		}
	})
}

// A run asks each question once: about parents, names that do not exist, and servers that
// fail. The next run asks again (X13).
func TestQuestionsAreAskedOnce(t *testing.T) {
	t.Parallel()
	z, addr := newZone(t, map[string]int{"broken.test. CAA": dns.RcodeServerFailure}, "example.test. A 127.0.0.1")
	w := newWorld(t, addr)
	var names []string
	for i := range 12 {
		names = append(names, fmt.Sprintf("a%d.long.parent.example.test", i), fmt.Sprintf("*.a%d.long.parent.example.test", i), fmt.Sprintf("a%d.broken.test", i))
	}
	for run := range 2 {
		for _, r := range w.run(t, names...).Names {
			want := preflight.OK
			if strings.HasSuffix(r.Name, "broken.test") {
				want = preflight.Fails
			}
			if c := only(t, r, preflight.CAA); c.Verdict != want {
				t.Errorf("%s: %+v", r.Name, c)
			}
		}
		for _, q := range []string{"test. CAA", "long.parent.example.test. CAA", "a3.long.parent.example.test. CAA", "broken.test. CAA", "a3.long.parent.example.test. AAAA"} {
			if n, ok := z.asked.Load(q); !ok || int(n.(*atomic.Int32).Load()) != run+1 {
				t.Errorf("run %d: %s was asked %v times", run+1, q, n)
			}
		}
	}
}
