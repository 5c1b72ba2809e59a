package dnsupdate

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// M46: servers by name or address, with a port or not, the variables under
// both of lego's names and in files, TSIG keys in parts or as a file.
func TestFromEnvironment(t *testing.T) {
	want := func(change func(*Settings)) Settings {
		s := Settings{Config: Config{Servers: []string{"192.0.2.53:53"}, TTL: 60}}
		change(&s)
		return s
	}
	keyFile := file(t, "# generated\nkey \"ACMEproxy\" {\n\talgorithm hmac-sha512;\n\tsecret \""+secret+"\";\n};\n")
	for _, test := range []struct {
		env  map[string]string
		want Settings
	}{
		{map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53"}, want(func(*Settings) {})},
		{map[string]string{"RFC2136_NAMESERVER": "192.0.2.53", "RFC2136_TTL": "0", "DNSUPDATE_SEQUENCE_INTERVAL": "5"}, want(func(s *Settings) { s.TTL = 0 })},
		{map[string]string{"DNSUPDATE_NAMESERVER_FILE": file(t, "192.0.2.53\n"), "DNSUPDATE_TIMEOUT": "7"}, want(func(s *Settings) { s.PropagationTimeout = 7 * time.Second })},
		{
			map[string]string{
				"DNSUPDATE_NAMESERVER": "ns1.example.com, 192.0.2.1:5353 2001:db8::1\n[2001:db8::2] [2001:db8::3]:54", "DNSUPDATE_ZONES": "Example.com,example.org.",
				"DNSUPDATE_DNS_TIMEOUT": "3", "DNSUPDATE_PROPAGATION_TIMEOUT": "120", "DNSUPDATE_TIMEOUT": "7", "DNSUPDATE_POLLING_INTERVAL": "4", "DNSUPDATE_TTL": "300",
			},
			Settings{
				Config: Config{
					Servers: []string{"ns1.example.com:53", "192.0.2.1:5353", "[2001:db8::1]:53", "[2001:db8::2]:53", "[2001:db8::3]:54"},
					Zones:   []string{"example.com.", "example.org."}, TTL: 300, Timeout: 3 * time.Second,
				},
				PropagationTimeout: 2 * time.Minute, PollingInterval: 4 * time.Second,
			},
		},
		{map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "DNSUPDATE_TSIG_KEY": "AcmeProxy", "DNSUPDATE_TSIG_SECRET": secret}, want(func(s *Settings) { s.Key = key })},
		{map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "RFC2136_TSIG_KEY": "acmeproxy.", "RFC2136_TSIG_SECRET_FILE": file(t, secret+"\n"), "RFC2136_TSIG_ALGORITHM": "hmac-sha1"}, want(func(s *Settings) {
			s.Key = Key{Name: "acmeproxy.", Algorithm: dns.HmacSHA1, Secret: secret}
		})},
		{map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "DNSUPDATE_TSIG_FILE": keyFile}, want(func(s *Settings) {
			s.Key = Key{Name: "acmeproxy.", Algorithm: dns.HmacSHA512, Secret: secret}
		})},
	} {
		got, err := FromEnvironment(func(name string) string { return test.env[name] })
		if err != nil {
			t.Errorf("%v: %v", test.env, err)
		}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%v: %s", test.env, diff)
		}
	}
}

// An error names the variable and a valid value, and never the secret.
func TestFromBadEnvironment(t *testing.T) {
	const bad = "not*base64*s3cret"
	none := filepath.Join(t.TempDir(), "none")
	for _, test := range []struct {
		name, value string
		want        []string
	}{
		{"DNSUPDATE_NAMESERVER", "", []string{"missing: DNSUPDATE_NAMESERVER"}},
		{"DNSUPDATE_NAMESERVER", "https://ns1.example.com/", []string{"DNSUPDATE_NAMESERVER: ", "is not a DNS server; use a name or an address such as"}},
		{"DNSUPDATE_NAMESERVER", "ns1.example.com:0", []string{"is not a DNS server"}},
		{"DNSUPDATE_NAMESERVER", "ns1.example.com:dns", []string{"is not a DNS server"}},
		{"DNSUPDATE_NAMESERVER", "[ns1.example.com]:53", []string{"is not a DNS server"}},
		{"DNSUPDATE_NAMESERVER", ",", []string{"DNSUPDATE_NAMESERVER: no name server"}},
		{"DNSUPDATE_NAMESERVER", strings.Repeat("192.0.2.1 ", 9), []string{"9 name servers are too many; use 8 at most"}},
		{"DNSUPDATE_ZONES", "a..b", []string{"DNSUPDATE_ZONES: ", "use one such as example.com"}},
		{"DNSUPDATE_TTL", "1h", []string{"DNSUPDATE_TTL: ", "use one such as 60"}},
		{"DNSUPDATE_TTL", "-1", []string{"DNSUPDATE_TTL: "}},
		{"DNSUPDATE_TTL", "99999999999", []string{"DNSUPDATE_TTL: "}},
		{"DNSUPDATE_TTL_FILE", none, []string{"DNSUPDATE_TTL_FILE: ", none}},
		{"DNSUPDATE_TSIG_KEY", "", []string{"half of a TSIG key; set both DNSUPDATE_TSIG_KEY and DNSUPDATE_TSIG_SECRET"}},
		{"DNSUPDATE_TSIG_KEY", "a..b", []string{"DNSUPDATE_TSIG_KEY: ", "such as acmeproxy"}},
		{"DNSUPDATE_TSIG_SECRET", "", []string{"half of a TSIG key"}},
		{"DNSUPDATE_TSIG_SECRET", bad, []string{"DNSUPDATE_TSIG_SECRET: the secret is not base64; copy it as tsig-keygen wrote it"}},
		{"DNSUPDATE_TSIG_SECRET_FILE", file(t, strings.Repeat("A", maxFile+1)), []string{"half of a TSIG key"}},
		{"DNSUPDATE_TSIG_ALGORITHM", "hmac-md5", []string{"DNSUPDATE_TSIG_ALGORITHM: ", "hmac-sha256., hmac-sha1., hmac-sha224., hmac-sha384., hmac-sha512."}},
		{"DNSUPDATE_TSIG_ALGORITHM", "gss-tsig", []string{"DNSUPDATE_TSIG_ALGORITHM: ", "exec", "nsupdate -g"}},
		{"DNSUPDATE_TSIG_FILE", none, []string{"DNSUPDATE_TSIG_FILE: ", none}},
		{"DNSUPDATE_TSIG_FILE", file(t, strings.Repeat("#", maxFile+1)), []string{"DNSUPDATE_TSIG_FILE: the file is too long"}},
		{"DNSUPDATE_TSIG_FILE", file(t, "Private-key-format: v1.3\nKey: "+bad), []string{"DNSUPDATE_TSIG_FILE: the file has no TSIG key", "tsig-keygen"}},
		{"DNSUPDATE_TSIG_FILE", file(t, "key a { secret "+bad+"; };"), []string{"DNSUPDATE_TSIG_FILE: the secret is not base64"}},
	} {
		env := map[string]string{"DNSUPDATE_NAMESERVER": "192.0.2.53", "DNSUPDATE_TSIG_KEY": "acmeproxy", "DNSUPDATE_TSIG_SECRET": secret}
		if test.name == "DNSUPDATE_TSIG_SECRET_FILE" {
			delete(env, "DNSUPDATE_TSIG_SECRET")
			test.want = []string{"DNSUPDATE_TSIG_SECRET_FILE: the file is too long"}
		}
		env[test.name] = test.value
		_, err := FromEnvironment(func(name string) string { return env[name] })
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: got %v, want %q", test.name, err, want)
			}
		}
		if err != nil && (strings.Contains(err.Error(), bad) || strings.Contains(err.Error(), secret)) {
			t.Errorf("the secret is in %v", err)
		}
	}
}

// What tsig-keygen writes today.
func TestKeygen(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), pebbletest.Tool(t, "tsig-keygen"), "-a", "hmac-sha384", "acmeproxy").Output()
	if err != nil {
		t.Fatal(err)
	}
	k, err := ParseKey(string(out))
	if err == nil {
		k, _, err = k.canonical()
	}
	if err != nil || k.Name != "acmeproxy." || k.Algorithm != dns.HmacSHA384 {
		t.Errorf("%v, %v", k, err)
	}
}

// No log shows the secret of a key.
func TestKeyIsNotPrinted(t *testing.T) {
	for _, format := range []string{"%v", "%+v", "%#v", "%s"} {
		if text := fmt.Sprintf(format, Config{Key: key}); strings.Contains(text, secret) {
			t.Errorf("%s: %s", format, text)
		}
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add("ns1.example.com, 192.0.2.1:5353 2001:db8::1\n[2001:db8::2] [2001:db8::3]:54")
	f.Add("[::1%lo]:53,a:b:c,:53,[]")
	f.Add("::%]")
	f.Fuzz(func(t *testing.T, text string) {
		servers, err := ParseServers(text)
		if err != nil {
			return
		}
		if len(servers) == 0 || len(servers) > maxServers {
			t.Errorf("%d servers of %q", len(servers), text)
		}
		for _, server := range servers {
			host, port, err := net.SplitHostPort(server)
			n, portErr := strconv.Atoi(port)
			if err != nil || host == "" || portErr != nil || n < 1 || n > 65535 {
				t.Errorf("%q of %q", server, text)
			}
			if again, err := ParseServers(server); err != nil || len(again) != 1 || again[0] != server {
				t.Errorf("%q is read as %q, %v", server, again, err)
			}
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(statement(key))
	f.Add("/* c */ // d\nkey a{algorithm hmac-sha1;secret \"c2VjcmV0\";}")
	f.Add("key {\"")
	f.Fuzz(func(t *testing.T, text string) {
		k, err := ParseKey(text)
		if err == nil && (k.Name == "" || k.Secret == "") {
			t.Errorf("half a key of %q", text)
		}
		if k, _, err = k.canonical(); err == nil && !strings.HasSuffix(k.Name, ".") {
			t.Errorf("the name %q of %q", k.Name, text)
		}
	})
}
