package config

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func defaultServe() Serve {
	s := DefaultServe()
	s.DataDir = "/var/lib/acmeproxy"
	return s
}

// A32, A35: the defaults are valid, and Needs lists what an order still needs.
func TestDoubts(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Serve)
		want   string // the key of the only doubt
	}{
		"none":                {func(*Serve) {}, ""},
		"another public name": {func(s *Serve) { s.Hostname, s.PublicURL = "a.example.com", "https://b.example.com" }, "public-url"},
		"the hostname's port": {func(s *Serve) { s.Hostname, s.PublicURL = "A.example.com.", "https://a.example.com:8443" }, ""},
		"a second name": {func(s *Serve) {
			s.Hostname, s.PublicURL, s.Domains = "a.example.com", "https://b.example.com", []string{"a.example.com,*.example.com"}
		}, ""},
		"webroot and port 80":  {func(s *Serve) { s.HTTP01Webroot = "/var/www" }, "http-01-webroot"},
		"webroot alone":        {func(s *Serve) { s.HTTP01Webroot, s.HTTPAddr = "/var/www", None }, ""},
		"webroot, other port":  {func(s *Serve) { s.HTTP01Webroot, s.HTTPAddr = "/var/www", "127.0.0.1:8080" }, ""},
		"webroot of a backend": {func(s *Serve) { s.HTTP01Webroot, s.HTTPFallback = "/var/www", "http://127.0.0.1:8080" }, ""},
		"owner":                {func(s *Serve) { s.Files.Owner = "www-data" }, "owner"},
		"owner below":          {func(s *Serve) { s.Files.Owner, s.CertDir = "www-data", "/var/lib/acmeproxy/x" }, "owner"},
		"owner elsewhere":      {func(s *Serve) { s.Files.Owner, s.CertDir = "www-data", "/etc/ssl/acmeproxy" }, ""},
		"owner of no files":    {func(s *Serve) { s.Files.Owner, s.Domains = "www-data", nil }, ""},
	} {
		s := DefaultServe()
		s.DataDir, s.Domains = "/var/lib/acmeproxy", []string{"www.example.com"}
		test.change(&s)
		doubts := s.Doubts()
		if test.want == "" && len(doubts) == 0 {
			continue
		}
		if len(doubts) != 1 || !strings.HasPrefix(doubts[0], test.want+": ") || test.want == "" {
			t.Errorf("%s: %q, want %q", name, doubts, test.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := defaultServe()
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.HTTPAddr != ":80" || s.HTTPSAddr != ":443" || s.ACMEDirectoryURL != LetsEncrypt {
		t.Errorf("got %+v", s)
	}
	needs := s.Needs()
	if len(needs) != 2 || !strings.Contains(needs[0], "--accept-tos") || !strings.Contains(needs[1], "--hostname") {
		t.Errorf("got %q", needs)
	}
	s.AcceptTOS, s.Hostname = true, "acmeproxy.example.com"
	if needs := s.Needs(); len(needs) != 0 {
		t.Errorf("got %q", needs)
	}
}

// Each case changes one default. An empty want means that the settings are valid.
func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		change func(*Serve)
		want   string // the start of the only fault
	}{
		{"all addresses", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "192.0.2.1:80", "[2001:db8::1]:443" }, ""},
		{"names and zones", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "localhost:80", "[fe80::1%eth0]:443" }, ""},
		{"free ports", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "127.0.0.1:0", "127.0.0.1:0" }, ""},
		{"two hosts, one port", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "192.0.2.1:443", "192.0.2.2:443" }, ""},
		{"families", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "0.0.0.0:443", "[::1]:443" }, ""},
		{"no port", func(s *Serve) { s.HTTPAddr = "localhost" }, `http-addr: "localhost" is not an address to listen on; write host:port, such as :80 or 192.0.2.1:80`},
		{"port alone", func(s *Serve) { s.HTTPAddr = "80" }, `http-addr: "80" is not`},
		{"port name", func(s *Serve) { s.HTTPSAddr = ":https" }, `https-addr: ":https" is not`},
		{"port too high", func(s *Serve) { s.HTTPSAddr = ":65536" }, `https-addr: ":65536" is not`},
		{"port negative", func(s *Serve) { s.HTTPSAddr = ":-1" }, `https-addr: ":-1" is not`},
		{"URL", func(s *Serve) { s.HTTPSAddr = "https://a.example.com" }, `https-addr: "https://a.example.com" is not`},
		{"bare IPv6", func(s *Serve) { s.HTTPAddr = "::1:80" }, `http-addr: "::1:80" is not`},
		{"star", func(s *Serve) { s.HTTPAddr = "*:80" }, `http-addr: "*:80" is not`},
		{"no address", func(s *Serve) { s.HTTPAddr = "" }, `http-addr: "" is not`},
		{"same", func(s *Serve) { s.HTTPSAddr = ":80" }, "https-addr: :80 is taken by http-addr :80; use another port"},
		{"same, one host", func(s *Serve) { s.HTTPSAddr = "127.0.0.1:80" }, "https-addr: 127.0.0.1:80 is taken"},
		{"same, IPv4 wildcard", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "127.0.0.1:80", "0.0.0.0:80" }, "https-addr: 0.0.0.0:80 is taken"},
		{"same, both families", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "127.0.0.1:80", "[::]:80" }, "https-addr: [::]:80 is taken"},
		{"same name", func(s *Serve) { s.HTTPAddr, s.HTTPSAddr = "localhost:80", "LOCALHOST:80" }, "https-addr: LOCALHOST:80 is taken"},

		{"public URL", func(s *Serve) { s.Hostname, s.PublicURL = "a.example.com", "https://a.example.com:8443" }, ""},
		{"public URL, usual port", func(s *Serve) { s.PublicURL = "https://a.example.com:443" }, "public-url: https://a.example.com:443 has the usual port; leave out :443"},
		{"public URL, path", func(s *Serve) { s.PublicURL = "https://a.example.com/acme" }, "public-url: not an https:// URL with a host alone"},

		{"fallback", func(s *Serve) { s.HTTPFallback = "redirect" }, ""},
		{"fallback backend", func(s *Serve) { s.HTTPFallback = "http://127.0.0.1:8080" }, ""},
		{"fallback backend elsewhere", func(s *Serve) { s.HTTPFallback = "http://web/" }, ""},
		{"fallback backend IPv6", func(s *Serve) { s.HTTPFallback = "http://[2001:db8::1]:80" }, ""},
		{"fallback word", func(s *Serve) { s.HTTPFallback = "403" }, "http-fallback: is invalid; write 404, redirect, or the address of a web server, such as http://127.0.0.1:8080"},
		{"no fallback", func(s *Serve) { s.HTTPFallback = "" }, "http-fallback: is invalid; write 404"},
		{"fallback password", func(s *Serve) { s.HTTPFallback = "http://ops:s3cr3t@web:80" }, "http-fallback: is invalid; write 404"},
		{"fallback https", func(s *Serve) { s.HTTPFallback = "https://127.0.0.1:8443" }, `http-fallback: "https://127.0.0.1:8443" is not http:// with a host and a port alone; write`},
		{"fallback path", func(s *Serve) { s.HTTPFallback = "http://127.0.0.1:8080/app" }, `http-fallback: "http://127.0.0.1:8080/app" is not http://`},
		{"fallback host", func(s *Serve) { s.HTTPFallback = "http://*.example.com" }, `http-fallback: "http://*.example.com" is not http://`},
		{"fallback port", func(s *Serve) { s.HTTPFallback = "http://127.0.0.1:0" }, `http-fallback: "http://127.0.0.1:0" has no port from 1 to 65535; write`},
		{"fallback to port 80", func(s *Serve) { s.HTTPFallback = "http://127.0.0.1" }, "http-fallback: http://127.0.0.1 is acmeproxy itself; name the web server's own address"},
		{"fallback to port 443", func(s *Serve) { s.HTTPFallback = "http://localhost:443" }, "http-fallback: http://localhost:443 is acmeproxy itself"},

		{"no data dir", func(s *Serve) { s.DataDir = "" }, "data-dir: is empty; write"},

		{"store", func(s *Serve) { s.Store = "postgres://u:p%40w@db.example.com:5433,db2/acmeproxy?sslmode=require" }, ""},
		{"store by socket", func(s *Serve) { s.Store = "postgresql:///acmeproxy?host=/run/postgresql" }, ""},
		{"store file", func(s *Serve) { s.Store = "/var/lib/acmeproxy.db" }, "store: not the URL of a PostgreSQL database; write it like postgres://"},
		{"store password", func(s *Serve) { s.Store = "postgres://u:p@w@db/acmeproxy" }, "store: a special character stands where it cannot; write those of the password as %40"},
		{"store port", func(s *Serve) { s.Store = "postgres://u@db:pg/acmeproxy" }, "store: the host or port cannot be read; write host"},

		{"hostname", func(s *Serve) { s.Hostname = "Acmeproxy.Example.COM" }, ""},
		{"IDNA hostname", func(s *Serve) { s.Hostname = "bücher.example" }, ""},
		{"hostname URL", func(s *Serve) { s.Hostname = "https://a.example.com" }, `hostname: "https://a.example.com" is not a DNS name; write`},
		{"hostname port", func(s *Serve) { s.Hostname = "a.example.com:443" }, `hostname: "a.example.com:443" is not a DNS name; write`},
		{"hostname IPv4", func(s *Serve) { s.Hostname = "192.0.2.1" }, "hostname: 192.0.2.1 is an IP address; write"},
		{"hostname IPv6", func(s *Serve) { s.Hostname = "2001:db8::1" }, "hostname: 2001:db8::1 is an IP address; write"},
		{"hostname wildcard", func(s *Serve) { s.Hostname = "*.example.com" }, "hostname: *.example.com is a wildcard; write"},
		{"hostname label", func(s *Serve) { s.Hostname = "proxy" }, `hostname: "proxy" has one label only`},
		{"hostname blank", func(s *Serve) { s.Hostname = "a.example.com b" }, `hostname: "a.example.com b" is not a DNS name`},

		{"directory", func(s *Serve) { s.ACMEDirectoryURL = "https://ca.example:14000/dir?x=y" }, ""},
		{"directory on this host", func(s *Serve) { s.ACMEDirectoryURL = "https://127.0.0.1:14000/dir" }, ""},
		{"plain directory on this host", func(s *Serve) { s.ACMEDirectoryURL = "http://127.0.0.1:14000/dir" }, "acme-directory-url: http://127.0.0.1:14000/dir is not encrypted"},
		{"directory's port", func(s *Serve) { s.ACMEDirectoryURL = "https://ca.example:70000/dir" }, "acme-directory-url: https://ca.example:70000/dir has no port"},
		{"directory's port 0", func(s *Serve) { s.ACMEDirectoryURL = "https://ca.example:0/dir" }, "acme-directory-url: https://ca.example:0/dir has no port"},
		{"directory's empty label", func(s *Serve) { s.ACMEDirectoryURL = "https://ca..example/dir" }, "acme-directory-url: not the URL"},
		{"directory's false address", func(s *Serve) { s.ACMEDirectoryURL = "https://192.0.2.300/dir" }, "acme-directory-url: not the URL"},
		{"directory's wildcard", func(s *Serve) { s.ACMEDirectoryURL = "https://*.example/dir" }, "acme-directory-url: not the URL"},
		{"directory in a private network", func(s *Serve) { s.ACMEDirectoryURL = "https://ca:8443/dir" }, ""},
		{"directory on this host, IPv6", func(s *Serve) { s.ACMEDirectoryURL = "https://[::1]:14000/dir" }, ""},
		{"directory on localhost", func(s *Serve) { s.ACMEDirectoryURL = "https://localhost:14000/dir" }, ""},
		{"plain directory", func(s *Serve) { s.ACMEDirectoryURL = "http://ca.example/dir" }, "acme-directory-url: http://ca.example/dir is not encrypted; write https://"},
		{"localhost's namesake", func(s *Serve) { s.ACMEDirectoryURL = "http://localhost.example.com/dir" }, "acme-directory-url: http://localhost.example.com/dir is not encrypted"},
		{"directory scheme", func(s *Serve) { s.ACMEDirectoryURL = "ftp://ca.example/dir" }, "acme-directory-url: ftp://ca.example/dir is not an https:// URL"},
		{"directory without scheme", func(s *Serve) { s.ACMEDirectoryURL = "ca.example/dir" }, "acme-directory-url: not the URL of an ACME directory; write it like https://acme-v02"},
		{"no directory", func(s *Serve) { s.ACMEDirectoryURL = "" }, "acme-directory-url: not the URL"},
		{"no directory host", func(s *Serve) { s.ACMEDirectoryURL = "https:///dir" }, "acme-directory-url: not the URL"},

		{"email", func(s *Serve) { s.Email = "ops+acme@example.com" }, ""},
		{"email name", func(s *Serve) { s.Email = "Ops <ops@example.com>" }, `email: "Ops <ops@example.com>" is not a plain e-mail address; write`},
		{"email brackets", func(s *Serve) { s.Email = "<ops@example.com>" }, `email: "<ops@example.com>" is not`},
		{"email URL", func(s *Serve) { s.Email = "mailto:ops@example.com" }, `email: "mailto:ops@example.com" is not`},
		{"emails", func(s *Serve) { s.Email = "a@example.com,b@example.com" }, `email: "a@example.com,b@example.com" is not`},
		{"email header", func(s *Serve) { s.Email = "a@example.com?cc=b@example.com" }, "email: "},
		{"email user", func(s *Serve) { s.Email = "ops" }, `email: "ops" is not`},

		{"EAB", func(s *Serve) { s.EABKid, s.EABHMACKeyFile = "kid", "/etc/eab" }, ""},
		{"EAB without key", func(s *Serve) { s.EABKid = "kid" }, "eab-hmac-key-file: is missing; eab-kid needs it: set it to a file that holds the HMAC key from the CA"},
		{"EAB without kid", func(s *Serve) { s.EABHMACKeyFile = "/etc/eab" }, "eab-kid: is missing; eab-hmac-key-file needs it"},

		{"TLS-ALPN-01 without port 80", func(s *Serve) { s.Challenge, s.HTTPAddr = "tls-alpn-01", None }, ""},
		{"DNS-01 without port 80", func(s *Serve) { s.Challenge, s.DNSProvider, s.HTTPAddr = "dns-01", "exec", None }, ""},
		{"webroot without port 80", func(s *Serve) { s.HTTP01Webroot, s.HTTPAddr = "/var/www", None }, ""},
		{"hook without port 80", func(s *Serve) { s.HTTP01Hook, s.HTTPAddr = "publish", None }, ""},
		{"webroot and hook", func(s *Serve) { s.HTTP01Webroot, s.HTTP01Hook = "/var/www", "publish" }, "http-01-hook: cannot be combined with http-01-webroot; remove one of them"},
		{"HTTP-01 without port 80", func(s *Serve) { s.HTTPAddr = None }, "http-addr: with none, no listener answers http-01; use"},
		{"fallback without port 80", func(s *Serve) { s.Challenge, s.HTTPAddr, s.HTTPFallback = "tls-alpn-01", None, "redirect" }, "http-fallback: works only with an http-addr"},
		{"challenge", func(s *Serve) { s.Challenge = "http" }, `challenge: unknown value "http"; use one of http-01, tls-alpn-01, dns-01`},
		{"DNS-01 alone", func(s *Serve) { s.Challenge = "dns-01" }, "dns-provider: is missing; challenge dns-01 needs it: use one of acme-dns,"},
		{"DNS provider", func(s *Serve) { s.DNSProvider = "route53" }, `dns-provider: unknown value "route53"; use one of acme-dns, exec, httpreq, rfc2136`},
		{"DNS propagation", func(s *Serve) { s.DNSPropagation = "maybe" }, `dns-propagation: unknown value "maybe"; use one of nameservers, resolvers, none`},
		{"DNS resolvers", func(s *Serve) {
			s.DNSProvider, s.DNSResolvers = "rfc2136", []string{"192.0.2.53", "2001:db8::53", "[2001:db8::53]:5353", "dns.example.com:53"}
		}, ""},
		{"DNS resolver", func(s *Serve) { s.DNSProvider, s.DNSResolvers = "exec", []string{"https://dns.example.com"} }, `dns-resolver: "https://dns.example.com" is not a DNS server; use`},
		{"DNS resolver for nothing", func(s *Serve) { s.DNSResolvers = []string{"192.0.2.53"} }, "dns-resolver: works only with a dns-provider"},
		{"profile", func(s *Serve) { s.Profile = "shortlived" }, ""},
		{"no profile", func(s *Serve) { s.Profile = "short lived" }, "profile: not the name of a profile; use one that the CA's directory lists"},

		{"key type", func(s *Serve) { s.KeyType = "rsa4096" }, ""},
		{"weak key type", func(s *Serve) { s.KeyType = "rsa1024" }, `key-type: unknown key type "rsa1024"; write one of ec256, ec384,`},
		{"log", func(s *Serve) { s.LogLevel, s.LogFormat = "debug", "json" }, ""},
		{"log level", func(s *Serve) { s.LogLevel = "INFO" }, `log-level: unknown level "INFO"; write debug, info, warn or error`},
		{"log format", func(s *Serve) { s.LogFormat = "" }, `log-format: unknown format ""; write text or json`},

		{"domains", func(s *Serve) { s.Domains = []string{"a.example.com,b.example.com", "a.example.com"} }, ""},
		{"domain twice", func(s *Serve) { s.Domains = []string{"a.example.com,b.example.com", "B.example.com, a.example.com."} }, "domain: a.example.com,b.example.com is set twice; remove one"},
		{"domain empty", func(s *Serve) { s.Domains = []string{"a.example.com,"} }, `domain: "a.example.com," has an empty name; join`},
		{"domain wrong", func(s *Serve) { s.Domains = []string{"ops@example.com"} }, `domain: "ops@example.com" is not a DNS name`},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := defaultServe()
			test.change(&s)
			err := s.Validate()
			switch {
			case test.want == "" && err != nil:
				t.Errorf("got %v", err)
			case test.want != "" && (err == nil || !strings.HasPrefix(err.Error(), test.want) || strings.Contains(err.Error(), "\n")):
				t.Errorf("got %v, want only %s…", err, test.want)
			}
		})
	}
}

func TestResolvers(t *testing.T) {
	s := Serve{DNSResolvers: []string{"192.0.2.53", "2001:db8::53", "[2001:db8::53]:5353", "dns.example.com:53", "dns.example.com"}}
	got, err := s.Resolvers()
	want := []string{"192.0.2.53:53", "[2001:db8::53]:53", "[2001:db8::53]:5353", "dns.example.com:53", "dns.example.com:53"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// All faults are reported together, one a line, each with its key first.
func TestValidateEverything(t *testing.T) {
	err := (&Serve{Hostname: "x", Email: "x", EABKid: "x", Domains: []string{"x", "y"}}).Validate()
	var keys []string
	for _, line := range faults("/none/none", err) {
		key, _, _ := strings.Cut(line, ": ")
		keys = append(keys, key)
	}
	want := []string{
		"http-addr", "https-addr", "http-fallback", "data-dir", "hostname", "acme-directory-url", "email", "eab-hmac-key-file",
		"challenge", "dns-propagation", "domain", "domain", "log-level", "log-format",
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}

// Errors do not repeat a password in a URL.
func TestValidateHidesPasswords(t *testing.T) {
	for _, directory := range []string{"https://ops:s3cr3t@ca.example/dir", "http://ops:s3cr3t@ca.example/dir", "https://ops:s3cr3t@ca.example:x/dir"} {
		s := defaultServe()
		s.ACMEDirectoryURL = directory
		if err := s.Validate(); err == nil || strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("got %v", err)
		}
	}
}

// The order of the names, which the set loses, chooses the certificate's name (X43).
func TestCertificateSets(t *testing.T) {
	s := Serve{Domains: []string{"www.example.com, EXAMPLE.com", "192.0.2.1", "example.com", "LB-1 = b.example,a.example", "*.example.com"}}
	got, err := s.CertificateSets()
	if err != nil {
		t.Fatal(err)
	}
	want := []CertificateSet{
		{cert.Names{"example.com", "www.example.com"}, "www.example.com", false},
		{cert.Names{"192.0.2.1"}, "192.0.2.1", false},
		{cert.Names{"example.com"}, "example.com", false},
		{cert.Names{"a.example", "b.example"}, "LB-1", true},
		{cert.Names{"*.example.com"}, "*.example.com", false},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for entry, fault := range map[string]string{
		"=a.example":                            "the name before",
		"../x=a.example":                        "the name before",
		".x=a.example":                          "the name before",
		"x y=a.example":                         "the name before",
		strings.Repeat("x", 254) + "=a.example": "the name before",
		"lb=":                                   "empty name",
		"lb=a.example,x=b.example":              "not a DNS name",
		"a.example,lb=b.example":                "the name before",
	} {
		if _, err := (&Serve{Domains: []string{entry}}).CertificateSets(); err == nil || !strings.Contains(err.Error(), fault) {
			t.Errorf("%s: %v", entry, err)
		}
	}
	if _, err := (&Serve{Domains: []string{"a.example,b.example", "lb=b.example,a.example"}}).CertificateSets(); err == nil {
		t.Error("one set twice")
	}
}

// FuzzCertificateSets checks that no entry names a folder outside of the others.
func FuzzCertificateSets(f *testing.F) {
	f.Add("lb=www.example.com, *.example.com")
	f.Add("fe80::1,a.example")
	f.Add("..=a.example")
	f.Fuzz(func(t *testing.T, entry string) {
		sets, err := (&Serve{Domains: []string{entry}}).CertificateSets()
		if err != nil {
			return
		}
		if len(sets) != 1 || len(sets[0].Names) == 0 {
			t.Fatalf("%q is %+v", entry, sets)
		}
		if name := sets[0].Name; name == "" || strings.HasPrefix(name, ".") || strings.ContainsAny(name, "/\\\x00") {
			t.Errorf("%q is named %q", entry, name)
		}
	})
}

func TestNewLogger(t *testing.T) {
	var out bytes.Buffer
	log, _, err := NewLogger(&out, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("not shown")
	log.Warn("shown", "names", "a.example.com")
	var line map[string]any
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line["msg"] != "shown" || line["names"] != "a.example.com" {
		t.Errorf("got %s: %v", &out, err)
	}
	for level, want := range map[string]slog.Level{"debug": -4, "info": 0, "warn": 4, "error": 8} {
		log, _, err := NewLogger(&out, level, "text")
		if err != nil {
			t.Fatal(err)
		}
		if !log.Enabled(t.Context(), want) || log.Enabled(t.Context(), want-1) {
			t.Errorf("%s is not level %d", level, want)
		}
	}
	if _, _, err := NewLogger(&out, "all", "text"); err == nil || !strings.HasPrefix(err.Error(), "log-level: ") {
		t.Errorf("got %v", err)
	}
	if _, _, err := NewLogger(&out, "info", "xml"); err == nil || !strings.HasPrefix(err.Error(), "log-format: ") {
		t.Errorf("got %v", err)
	}
}
