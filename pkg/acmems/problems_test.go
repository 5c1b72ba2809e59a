package acmems

import (
	"strings"
	"testing"
)

// What is ignored with a warning, with its line, and without a value of an [auth] section
// (M42). The account in line 2 completes each text.
func TestWarnings(t *testing.T) {
	t.Parallel()
	const block = "[auth x]\nall=yes\ndomain=*\n"
	for _, c := range []struct{ text, want string }{
		{"manager=1\n" + minimal, "line 1: an option before the first section, which is ignored; move it below its section"},
		{minimal + "acme_server=https://ca/", "line 3: [account] acme_server: unknown option, which is ignored; remove it"},
		{minimal + "[mgmt]\nmanager=https://ca/", "line 4: [mgmt] manager: unknown option, which is ignored; remove it"},
		{minimal + "[unknown]\na=b", "line 3: [unknown]: unknown section, which is ignored; remove it"},
		{minimal + "[auth]\nall=yes", "line 3: [auth]: unknown section, which is ignored; remove it"},
		{minimal + "[]", "line 3: []: unknown section, which is ignored; remove it"},
		{minimal + "[x\x1by]", `line 3: [x\u001by]: unknown section, which is ignored; remove it`},
		{minimal + "[logging]\nlvl=info", "line 4: [logging] lvl: unknown option, which is ignored; remove it"},
		{minimal + "[verification http]\ntype=http01\nport=80", "line 5: [verification http] port: unknown option, which is ignored; remove it"},
		{minimal + block + "pi=secret", "line 6: [auth x] pi: unknown option, which is ignored; remove it"},
		{minimal + block + "pi=secret\ndomain=a", "line 6: [auth x] pi: unknown option, which is ignored together with the rest of the block; remove it"},
		{minimal + "[auth x]\npi=1\nip=::1\ndomain=a", "line 4: [auth x] pi: unknown option, which is ignored together with the rest of the block; remove it\n" +
			"line 3: [auth x] domain: missing, so the block allows nothing; add one"},
		{minimal + "[auth x]\nall=yes", "line 3: [auth x] domain: missing, so the block allows nothing; add one"}, // M22
		{minimal + block + "[auth y]\nall=yes\ndomain=*\n" + block, "line 9: [auth x] begins again, and what is below line 3 is ignored; merge them"},
		{minimal + "[storage a]\ntype=none\n[storage \"a\"]\ntype=none", `line 5: [storage "a"] replaces the one of line 3; remove one of the two`},
		{minimal + "accept-terms-of-service=no", "line 3: [account] accept-terms-of-service: neither yes nor a URL, so no terms are accepted by it; write yes, or the URL of the terms"},
		{minimal + "[mgmt]\nmax-size=0", "line 4: [mgmt] max-size: 0 means the default of 4096 bytes; write that"},
		{minimal + "[setup]\ninclude-path=/x", "line 4: [setup] include-path: it has no effect; remove it"},
		{minimal + "; a\n  # b\r\n\r[mgmt]\r\n", ""},
		{"\ufeff" + minimal, ""},
	} {
		got := problemsOf(t, c.text)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], "warning: ")
		}
		if text := strings.Join(got, "\n"); text != c.want {
			t.Errorf("%q:\n%s\nnot\n%s", c.text, text, c.want)
		}
	}
}

// Faults that keep the server from its start: M23, M25, M31, M34, M39, M40, M42, M50.
func TestFaults(t *testing.T) {
	t.Parallel()
	const (
		open  = "[auth x]\nall=yes\ndomain=*\n"
		dns   = "[verification d]\ntype=dns01-dnsUpdate\n"
		files = "[storage f]\ntype=file\n"
	)
	for _, c := range []struct{ text, want string }{
		{"", "[account] dir: missing; set it to the folder of account.pem"},
		{minimal + "acme-server=https://a/\nacme-server=https://b/", "line 4: [account] acme-server: set in line 3 already; remove one of the two"}, // M42
		{minimal + "acme-server=ca", "line 3: [account] acme-server: not a URL; write one such as " + defaultDirectory},
		{minimal + "no option", "line 3: neither a section, an option with = nor a comment; begin a comment with # on a line of its own"},
		{minimal + "[mgmt] # comment", "line 3: neither a section, an option with = nor a comment; begin a comment with # on a line of its own"},
		{minimal + "x=\xff", "line 3: not a line of text in UTF-8 below 4096 bytes; fix or remove it"},
		{minimal + "x=" + strings.Repeat("x", 5000), "line 3: not a line of text in UTF-8 below 4096 bytes; fix or remove it"},
		// M50
		{minimal + "accept-terms-of-service=yes\naccept-terms-of-service=https://a/", "line 4: [account] accept-terms-of-service: both yes and another value; write either yes, or the URLs of the terms that you accept"},
		{minimal + "accept-terms-of-service=https://a/\naccept-terms-of-service=yes", "line 4: [account] accept-terms-of-service: both yes and another value; write either yes, or the URLs of the terms that you accept"},
		// M40
		{minimal + "[mgmt]\nlistener=/run/s", `line 4: [mgmt] listener: "/run/s" has no port, and unix sockets are not supported; write one such as 127.0.0.1:1313`},
		{minimal + "[mgmt]\nlistener=:80", `line 4: [mgmt] listener: ":80" is not an address and a port; write one such as 127.0.0.1:1313 or [::1]:1313`},
		{minimal + "[mgmt]\nmgmt=a:b", `line 4: [mgmt] mgmt: "a:b" is not an address and a port; write one such as 127.0.0.1:1313 or [::1]:1313`},
		{minimal + "[mgmt]\nlistener=a:65536", `line 4: [mgmt] listener: "a:65536" is not an address and a port; write one such as 127.0.0.1:1313 or [::1]:1313`},
		{minimal + "[verification h]\ntype=http01\nlistener=x", `line 5: [verification h] listener: "x" has no port, and unix sockets are not supported; write one such as 127.0.0.1:1313`},
		// M39
		{minimal + open + "verification=nope", `line 6: [auth x] verification: no [verification "nope"] exists; add it, or write the name of another`},
		{minimal + open + "storage=nope", `line 6: [auth x] storage: no [storage "nope"] exists; add it, or write the name of another`},
		{minimal + "[mgmt]\ndefault-verification=nope\n" + open, `line 4: [mgmt] default-verification: no [verification "nope"] exists; add it, or write the name of another`},
		{minimal + "[mgmt]\ndefault-storage=nope\n" + open, `line 4: [mgmt] default-storage: no [storage "nope"] exists; add it, or write the name of another`},
		{minimal + "[mgmt]\ndefault-verification=\n" + open, "line 5: [auth x] verification: missing, and there is no default; set it"},
		{minimal + "[mgmt]\ndefault-storage=\n" + open, "line 5: [auth x] storage: missing, and there is no default; set it"},
		// verifications and storages
		{minimal + "[verification a]\nlistener=\ntype=http01", "line 3: [verification a] type: missing as the first option; set it there"},
		{minimal + "[verification a]", "line 3: [verification a] type: missing as the first option; set it there"},
		{minimal + "[verification a]\ntype=tlsalpn", `line 4: [verification a] type: unknown type "tlsalpn"; use http01 or dns01-dnsUpdate`},
		{minimal + dns + "ttl=-1", `line 5: [verification d] ttl: "-1" is not a number between 0 and 2147483647; write one`},
		{minimal + dns + "timeout=0", `line 5: [verification d] timeout: "0" is not a number between 1 and 3600; write one`},
		{minimal + dns + "dns-server=a b", `line 5: [verification d] dns-server: "a b" is not a DNS server; use a name or an address such as ns1.example.com, 192.0.2.53 or [2001:db8::53]:53`},
		{minimal + dns + strings.Repeat("dns-server=a\n", 10), "line 13: [verification d] dns-server: more than 8; remove the others"},
		{minimal + dns + "tsig-secret=secret", "line 5: [verification d] tsig-secret: incomplete; set either tsig-file, or tsig-key together with tsig-secret"},
		{minimal + "[verification a]\ntype=dns01-boulder\nset-txt_url=x", "line 5: [verification a] set-txt_url: not a URL; write one such as http://localhost:8055/set-txt"},
		{minimal + "[verification a]\ntype=dns01-server\nlistener=a:1\nlistener=b:1", "line 3: [verification a] listener: several; remove all but one"},
		{minimal + "[storage s]\ndirectory=/c", "line 3: [storage s] type: missing as the first option; set it there"},
		{minimal + "[storage s]\ntype=redis", `line 4: [storage s] type: unknown type "redis"; use none or file`},
		{minimal + "[storage s]\ntype=none\nother=1", "line 5: [storage s] other: a storage of type none has no options; remove it"}, // M34
		{minimal + files, "line 3: [storage f] directory: missing; set it to the folder of the cache"},
		{minimal + files + "directory=/c\nrenew=1", "line 6: [storage f] renew: unknown option; remove it"},
		{minimal + files + "directory=/c\nrenew-within=2w", `line 6: [storage f] renew-within: "2w" is not a number between 0 and 3650; write one`},
		// blocks
		{minimal + "[auth x]\ndomain=*", "line 3: [auth x]: no method, so anyone could have its domains; add ip or hmac_type and hmac_key, or all=yes to mean that"}, // M23
		{minimal + "[auth x]\nall=no\ndomain=*", "line 4: [auth x] all: another value than yes; write yes, or remove it"},                                            // M25
		{minimal + "[auth x]\nip=secret\ndomain=*", "line 4: [auth x] ip: not an address or a network; write one such as 192.0.2.21, 192.0.2.0/24 or 2001:db8::/32"},
		{minimal + "[auth x]\nip=192.0.2.1/24\ndomain=*", "line 4: [auth x] ip: its address has bits beyond the length of the network; write the first address of the network"},
		{minimal + "[auth x]\nhmac_type=secret\nhmac_key=k\ndomain=*", "line 4: [auth x] hmac_type: no hash function of hashlib; use sha256, sha384 or sha512"}, // M31
		{minimal + "[auth x]\nhmac_type=sha256\ndomain=*", "line 4: [auth x] hmac_key: missing or empty; set it to a secret"},
		{minimal + "[auth x]\nhmac_type=sha256\nhmac_key=\ndomain=*", "line 4: [auth x] hmac_key: missing or empty; set it to a secret"},
		{minimal + "[auth x]\nhmac_key=k\ndomain=*", "line 4: [auth x] hmac_type: missing; set it, for example to sha256"},
		{minimal + open + "pi=1\nhmac_key=secret", "line 7: [auth x] hmac_key: ignored, because pi in line 6 is unknown; remove that line"},
		// others
		{minimal + "[logging]\nlevel=loud", `line 4: [logging] level: unknown level "loud"; use debug, info, warning or error`},
		{minimal + "[logging]\nformat=x", "line 4: [logging] format: no field such as %(message)s in it; add one"},
		{minimal + "[setup]\nplugin=x", "line 4: [setup] plugin: plugins are Python code, which cannot be loaded; remove it together with the options that it adds"},
		{"[account]\n[mgmt]\nmax-size=a\n", "line 1: [account] dir: missing; set it to the folder of account.pem\n" + `line 3: [mgmt] max-size: "a" is not a size; write bytes, or a number with k or m, such as 16k`},
	} {
		if text := strings.Join(problemsOf(t, c.text), "\n"); text != c.want {
			t.Errorf("%.80q:\n%s\nnot\n%s", c.text, text, c.want)
		}
		if _, err := Parse([]byte(c.text)); err != nil && strings.Contains(err.Error(), "secret") && !strings.Contains(c.want, "secret") {
			t.Errorf("a value of an [auth] section: %v", err)
		}
	}
}

// No text makes the parser or the decision fail, and a block that allows anything has a
// method.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal+"[mgmt]\nmgmt=[::1]:1\nmax-size=1k\n[auth \"x\"]\nip=10/8\ndomain=[a-z]*\n"), "a.example.org")
	f.Add([]byte(minimal+"[verification v]\ntype=dns01-dnsUpdate\n[storage s]\ntype=none\n[auth x]\nhmac_type=sha256\nhmac_key=k\ndomain=?"), "a")
	f.Fuzz(func(t *testing.T, text []byte, name string) {
		c, err := Parse(text)
		if err != nil {
			if c != nil {
				t.Error("a Config in addition to an error")
			}
			return
		}
		for _, w := range c.Warnings {
			if strings.ContainsAny(w.Error(), "\n\x1b") {
				t.Errorf("%q", w.Error())
			}
		}
		for _, b := range c.Blocks {
			m := b.methods
			if len(b.domains) > 0 && !m.all && m.ip == nil && m.hmac == nil {
				t.Errorf("block %q is open", b.Name)
			}
		}
		blocks, err := c.Possible(Caller{})
		if err == nil {
			Choose(blocks, []string{name})
		}
	})
}
