package acmems

import (
	"errors"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// minimal has what no configuration can lack.
const minimal = "[account]\ndir=/a\n"

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	c, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return c
}

// problemsOf returns each fault, or else each warning, as text.
func problemsOf(t *testing.T, text string) (texts []string) {
	t.Helper()
	c, err := Parse([]byte(text))
	if err == nil {
		for _, w := range c.Warnings {
			texts = append(texts, "warning: "+w.Error())
		}
		return texts
	}
	var joined interface{ Unwrap() []error }
	if !errors.As(err, &joined) {
		t.Fatalf("%T", err)
	}
	for _, each := range joined.Unwrap() {
		var p *Problem
		if !errors.As(each, &p) {
			t.Errorf("%T is no *Problem", each)
		}
		texts = append(texts, each.Error())
	}
	return texts
}

func addresses(all []Listener) (texts []string) {
	for _, l := range all {
		texts = append(texts, l.Network()+" "+l.Address())
	}
	return texts
}

func equal(t *testing.T, what string, got, want any) {
	t.Helper()
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%s: %#v, not %#v", what, got, want)
	}
}

// The example in the README of ACMEMS is read as printed: its key mgmt (M41), the comment
// behind a value, repeated keys and scoped addresses (M40, M42), both verifications and the
// default storage among several (M38).
func TestReadme(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/readme.ini")
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, string(text))
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Error(), "accept-terms-of-service: the comment") {
		t.Errorf("%v", c.Warnings)
	}
	equal(t, "account", c.Account, Account{Directory: defaultDirectory, Dir: "/etc/acmems/account/", AcceptTerms: true})
	equal(t, "listeners", addresses(c.Listeners), []string{"tcp4 192.0.2.13:1313"})
	equal(t, "max size", c.MaxSize, 4096)
	equal(t, "http", addresses(c.Verifications[0].Listeners),
		[]string{"tcp4 192.0.2.80:1380", "tcp4 198.51.100.80:1380", "tcp6 [fe80::80%eth0]:1380"})
	equal(t, "dns", c.Verifications[1].Update, Update{Servers: []string{"192.0.2.53:53"}, TTL: 5 * time.Second, Timeout: 30 * time.Second})
	equal(t, "storages", c.Storages, []Storage{{Name: "none", Line: 30}, {Name: "file", Dir: "/etc/acmems/storage", RenewWithin: 14 * day, Line: 33}})
	var blocks [][]string
	for _, b := range c.Blocks {
		blocks = append(blocks, append([]string{b.Name, b.Verification.Name, b.Storage.Name, string(b.HMAC())}, append(b.Networks(), b.Domains()...)...))
	}
	equal(t, "blocks", blocks, [][]string{
		{"mail", "http", "file", "", "192.0.2.0/24", "198.51.100.21", "mail.example.org", "mail.example.com"},
		{"ext", "http", "file", "", "198.51.100.128/28", "*.test.example.org"},
		{"mail-secure", "dns", "file", "sha256", "198.51.100.21", "mail?.example.org", "mail.example.com"},
	})
}

// The configuration of ACMEMS's own integration tests is read without a warning (M56).
func TestIntegrationConfiguration(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("testdata/integration.ini")
	if err != nil {
		t.Fatal(err)
	}
	c := mustParse(t, string(text))
	equal(t, "warnings", len(c.Warnings), 0)
	equal(t, "kinds", []Kind{c.Verifications[0].Kind, c.Verifications[1].Kind}, []Kind{HTTP01, DNS01Boulder})
	equal(t, "URL", c.Verifications[1].URL, "http://localhost:8055/set-txt")
	equal(t, "verification of the second block", c.Blocks[1].Verification.Name, "boulder")
	equal(t, "cache", c.Blocks[1].Storage, Storage{Name: "file", Dir: "tests/integration/storage", RenewWithin: 3 * day, Line: 22})
}

// The defaults: the staging CA (M51), loopback (M40), http01 on all addresses (M43, M37) and
// no cache (M34).
func TestDefaults(t *testing.T) {
	t.Parallel()
	c := mustParse(t, minimal)
	equal(t, "warnings", len(c.Warnings), 0)
	equal(t, "CA", c.Account.Directory, "https://acme-staging-v02.api.letsencrypt.org/directory")
	equal(t, "terms", c.Account.Accepts("https://ca.example.com/terms"), false)
	equal(t, "no terms", c.Account.Accepts(""), true)
	equal(t, "listeners", addresses(c.Listeners), []string{"tcp4 127.0.0.1:1313", "tcp6 [::1]:1313"})
	equal(t, "max size", c.MaxSize, 4096) // M9
	equal(t, "verifications", len(c.Verifications), 1)
	equal(t, "verification", c.Verifications[0].Name+" "+string(c.Verifications[0].Kind), "http http01")
	equal(t, "http01", addresses(c.Verifications[0].Listeners), []string{"tcp4 0.0.0.0:1380", "tcp6 [::]:1380"})
	equal(t, "storages", c.Storages, []Storage{{Name: "none"}})
	equal(t, "logging", c.Logging, Logging{Level: slog.LevelWarn, Destination: Stderr}) // M53
}

// M9: k and m multiply the whole number.
func TestMaxSize(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]int{
		"600": 600, "4k": 4096, "16k": 16384, "1m": 1 << 20, "16 k": 16384, "0": 4096, "4294967295m": 0, "2000m": 1 << 30,
		"4K": 0, "k": 0, "-1": 0, "1.5k": 0, "": 0, "0x10": 0,
	} {
		c, err := Parse([]byte(minimal + "[mgmt]\nmax-size=" + value))
		switch {
		case err == nil && c.MaxSize != want:
			t.Errorf("%q: %d", value, c.MaxSize)
		case (err == nil) != (want > 0):
			t.Errorf("%q: %v", value, err)
		}
	}
}

// Which listeners there are (M40, M41, M43).
func TestListeners(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want []string
	}{
		{"listener=127.0.0.1:13\nlistener=[fe80::abba%lo]:1380", []string{"tcp4 127.0.0.1:13", "tcp6 [fe80::abba%lo]:1380"}},
		{"listener=", nil},
		{"listener=\nmgmt=localhost:1", []string{"tcp localhost:1"}},
		{"listener=::1:1313", []string{"tcp6 [::1]:1313"}},
		{"mgmt=192.0.2.13:1313", []string{"tcp4 192.0.2.13:1313"}},
	} {
		equal(t, c.text, addresses(mustParse(t, minimal+"[mgmt]\n"+c.text).Listeners), c.want)
	}
	http := func(text string) []string {
		return addresses(mustParse(t, minimal+"[verification http]\ntype=http01\n"+text).Verifications[0].Listeners)
	}
	equal(t, "http01 on two", http("listener=127.0.0.1:80\nlistener=[::]:80"), []string{"tcp4 127.0.0.1:80", "tcp6 [::]:80"})
	equal(t, "http01 without", http("listener=127.0.0.1:80\nlistener="), []string(nil))
	for _, l := range []struct {
		host string
		want bool
	}{{"127.0.0.1", true}, {"::1", true}, {"localhost", true}, {"0.0.0.0", false}, {"::", false}, {"www", false}} {
		equal(t, l.host, Listener{Host: l.host}.IsLoopback(), l.want)
	}
}

// Which verification and storage a block uses (M37, M38).
func TestBlockUses(t *testing.T) {
	t.Parallel()
	const (
		web   = "[verification \"web\"]\ntype=http01\n"
		http  = "[verification http]\ntype=http01\nlistener=127.0.0.1:80\n"
		dns   = "[verification dns]\ntype=dns01-dnsUpdate\n"
		file  = "[storage file]\ntype=file\ndirectory=/c\n"
		none  = "[storage none]\ntype=none\n"
		block = "[auth x]\nall=yes\ndomain=*\n"
	)
	for _, c := range []struct{ text, verification, storage string }{
		{block, "http", "none"},
		{web + file + block, "web", "file"}, // the only one
		{web + dns + file + none + block, "http", "none-2"},
		{http + dns + block, "http-2", "none"},
		{"[mgmt]\ndefault-verification=dns\ndefault-storage=file\n" + web + dns + file + none + block, "dns", "file"},
		{"[mgmt]\ndefault-verification=\ndefault-storage=\n" + web + file + block + "verification=web\nstorage=file", "web", "file"},
		{web + dns + file + none + block + "verification=dns\nstorage=file", "dns", "file"},
	} {
		cfg := mustParse(t, minimal+c.text)
		b := cfg.Blocks[0]
		equal(t, c.text, []string{b.Verification.Name, b.Storage.Name}, []string{c.verification, c.storage})
		if !slices.ContainsFunc(cfg.Verifications, func(v Verification) bool { return v.Name == c.verification }) ||
			!slices.ContainsFunc(cfg.Storages, func(s Storage) bool { return s.Name == c.storage }) {
			t.Errorf("%s: %v, %v", c.text, cfg.Verifications, cfg.Storages)
		}
	}
}

// The verifications with DNS (M45, M46).
func TestDNSVerifications(t *testing.T) {
	t.Parallel()
	update := func(text string) Update {
		return mustParse(t, minimal+"[verification dns]\ntype=dns01-dnsUpdate\n"+text).Verifications[0].Update
	}
	equal(t, "defaults", update(""), Update{Servers: []string{"127.0.0.1:53"}, TTL: time.Minute, Timeout: 5 * time.Second})
	equal(t, "servers", update("dns-server=192.0.2.1\ndns-server=ns.example.com:5353\ndns-server=2001:db8::1\nttl=0\ntimeout=6").Servers,
		[]string{"192.0.2.1:53", "ns.example.com:5353", "[2001:db8::1]:53"})
	equal(t, "file", update("tsig-file=/etc/k").TSIG, TSIG{File: "/etc/k"})
	equal(t, "key", update("tsig-key=k\ntsig-secret=c2VjcmV0\ntsig-algorithm=hmac-sha512").TSIG, TSIG{Name: "k", Algorithm: "hmac-sha512", Secret: "c2VjcmV0"})
	server := func(text string) []string {
		return addresses(mustParse(t, minimal+"[verification dns]\ntype=dns01-server\n"+text).Verifications[0].Listeners)
	}
	equal(t, "server", server(""), []string{"tcp4 0.0.0.0:1353"})
	equal(t, "another", server("listener=127.0.0.1:53"), []string{"tcp4 127.0.0.1:53"})
	equal(t, "no listener", server("listener="), []string(nil))
}

// The terms of service that are accepted (M50).
func TestTerms(t *testing.T) {
	t.Parallel()
	const terms = "https://ca.example.com/terms"
	for _, c := range []struct {
		text string
		want bool
	}{
		{"accept-terms-of-service=yes", true},
		{"accept-terms-of-service=True", true},
		{"accept-terms-of-service=" + terms, true},
		{"accept-terms-of-service=https://other.example.com/\naccept-terms-of-service=" + terms, true},
		{"accept-terms-of-service=https://other.example.com/", false},
		{"accept-terms-of-service=no", false},
		{"", false},
	} {
		equal(t, c.text, mustParse(t, minimal+c.text).Account.Accepts(terms), c.want)
	}
}

// The log (M53).
func TestLogging(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text string
		want Logging
	}{
		{"level=info\ndestination=stdout", Logging{Level: slog.LevelInfo, Destination: Stdout}},
		{"level=DEBUG\ndestination=syslog", Logging{Level: slog.LevelDebug, Destination: Syslog}},
		{"level=Critical\ndestination=journalctl", Logging{Level: slog.LevelError + 4, Destination: Journal}},
		{
			"destination=/var/log/acmems.log\nformat=%(asctime)s %(message)s",
			Logging{Level: slog.LevelWarn, Destination: LogFile, File: "/var/log/acmems.log", Format: "%(asctime)s %(message)s"},
		},
		{"config-file=x", Logging{Level: slog.LevelWarn, Destination: Stderr}},
	} {
		equal(t, c.text, mustParse(t, minimal+"[logging]\n"+c.text).Logging, c.want)
	}
}
