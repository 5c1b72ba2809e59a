package dns01

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
)

// Each provider of the list can be opened, and no other.
func TestProvidersOfTheList(t *testing.T) {
	t.Parallel()
	if got := slices.Sorted(maps.Keys(openers())); !slices.Equal(got, dnsprovider.Names()) {
		t.Errorf("%q can be opened, %q are listed", got, dnsprovider.Names())
	}
}

// M46: without a resolver for CNAMEs, the name itself is used only if propagation is
// not checked. lego's variable disables CNAMEs.
func TestPlaceWithoutResolvers(t *testing.T) {
	for _, test := range []struct{ mode, off, want string }{
		{None, "", "_acme-challenge.a.example."},
		{Nameservers, "", ""},
		{Nameservers, "true", "_acme-challenge.a.example."},
	} {
		off := func(name string) string { return map[string]string{"LEGO_DISABLE_CNAME_SUPPORT": test.off}[name] }
		r := &rfc2136{setup: setup{check: &propagation{mode: test.mode}, getenv: off}}
		got, err := r.place(t.Context(), challenge.Challenge{Name: "a.example"})
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%+v: got %q, %v", test, got, err)
		}
	}
}

// The error names the variables that a provider needs.
func TestProviderSetUp(t *testing.T) {
	noFile := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		provider string
		env      map[string]string
		want     []string
	}{
		{"route53", nil, []string{`"route53"`, "acme-dns, exec, httpreq, rfc2136"}},
		{"rfc2136", nil, []string{"missing: DNSUPDATE_NAMESERVER", "DNSUPDATE_TSIG_SECRET", "DNSUPDATE_TSIG_FILE"}},
		{"rfc2136", map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "DNSUPDATE_TSIG_KEY": "k."}, []string{"half of a TSIG key"}},
		{"rfc2136", map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "DNSUPDATE_TSIG_FILE": noFile}, []string{noFile, "tsig-keygen"}},
		{"exec", nil, []string{"missing: EXEC_PATH", "present|cleanup"}},
		{"exec", map[string]string{"EXEC_PATH": noFile}, []string{"EXEC_PATH", noFile}},
		{"httpreq", nil, []string{"missing: HTTPREQ_ENDPOINT", "HTTPREQ_PASSWORD_FILE"}},
		{"httpreq", map[string]string{"HTTPREQ_ENDPOINT": "dns.example.com"}, []string{"not an http:// or https:// URL"}},
		{"acme-dns", nil, []string{"missing: ACME_DNS_API_BASE", "ACME_DNS_STORAGE_PATH"}},
		{"acme-dns", map[string]string{"ACME_DNS_API_BASE": "https://acme-dns.example.com"}, []string{"not set", "ACME_DNS_STORAGE_PATH"}},
	} {
		t.Run(test.provider, func(t *testing.T) {
			clearProviders(t)
			for name, value := range test.env {
				t.Setenv(name, value)
			}
			_, err := New(Config{Provider: test.provider, Getenv: os.Getenv, Resolvers: []string{"127.0.0.1:53"}})
			for _, want := range append(test.want, "dns-provider: ") {
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("got %v, want it to say %q", err, want)
				}
			}
		})
	}
}

// clearProviders unsets the variables that would set up a provider, for a test.
func clearProviders(t *testing.T) {
	t.Helper()
	for _, kv := range os.Environ() {
		name, _, _ := strings.Cut(kv, "=")
		isOf := func(p dnsprovider.Provider) bool {
			return slices.ContainsFunc(p.Prefixes, func(prefix string) bool { return strings.HasPrefix(name, prefix) })
		}
		if strings.HasPrefix(name, "LEGO_") || slices.ContainsFunc(dnsprovider.All(), isOf) {
			t.Setenv(name, "")
			os.Unsetenv(name)
		}
	}
}
