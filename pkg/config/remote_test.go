package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"

	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// remoteSettings holds the settings of a remote.
type remoteSettings struct {
	Poll         string             `yaml:"-"`
	Certificates RemoteCertificates `yaml:"certificates"`
}

func loadRemote(file string) (RemoteCertificates, error) {
	s, err := Load(new(pflag.FlagSet), os.Getenv, file, func(fs *pflag.FlagSet) *remoteSettings {
		s := &remoteSettings{}
		fs.StringVar(&s.Poll, "poll", "", "")
		return s
	})
	return s.Certificates, err
}

// A17, X10: a remote's file lists its certificates.
func TestLoadRemoteCertificates(t *testing.T) {
	file := write(t, `poll: 15m
certificates:
  - names: [Web1.Example.com, "*.web1.example.com", web1.example.com]
    mode: gateway
    out: tls/web1
    hook: systemctl reload nginx
    key-type: RSA2048
    format: [haproxy, pkcs12]
    pkcs12-password-file: p12-password
    owner: www-data:ssl-cert
    key-mode: "0640"
  - names: b.example.com, a.example.com
    out: /etc/ssl/../ssl/b
  - names: bücher.example
    format: haproxy,pem
  - names: ["192.0.2.1", "2001:DB8::1"]
    mode: certificate-agent
  - name: lb
    names: [lb.example.com, a.example.com]
`)
	got, err := loadRemote(file)
	if err != nil {
		t.Fatal(err)
	}
	want := RemoteCertificates{
		{
			First: "web1.example.com", Names: []string{"*.web1.example.com", "web1.example.com"}, Mode: "gateway",
			Out: filepath.Join(filepath.Dir(file), "tls/web1"), Hook: "systemctl reload nginx", KeyType: "rsa2048",
			Files: certfile.Layout{
				Formats: []string{"haproxy", "pkcs12"}, PKCS12PasswordFile: filepath.Join(filepath.Dir(file), "p12-password"),
				Owner: "www-data:ssl-cert", KeyMode: "0640",
			},
		},
		{First: "b.example.com", Names: []string{"a.example.com", "b.example.com"}, Out: "/etc/ssl/b"},
		{First: "xn--bcher-kva.example", Names: []string{"xn--bcher-kva.example"}, Files: certfile.Layout{Formats: []string{"haproxy,pem"}}},
		{First: "192.0.2.1", Names: []string{"192.0.2.1", "2001:db8::1"}, Mode: "agent"},
		{Name: "lb", First: "lb.example.com", Names: []string{"a.example.com", "lb.example.com"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// Entries must not share a stored name, names or a folder, however it is spelled. All
// such faults are reported together (X43).
func TestRemoteDuplicates(t *testing.T) {
	file := write(t, `certificates:
  - names: [a.example.com, www.example.com]
    out: real/a
  - names: www.example.com,A.example.com
  - names: b.example.com
    name: web
    out: link/a
  - names: c.example.com
    name: web
  - names: a.example.com
    mode: gateway
  - names: a.example.com
    mode: agent
  - names: a.example.com
    mode: agent
    name: copy
  - names: d.example.com
    name: ../d
`)
	dir := filepath.Dir(file)
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "real"), 0o755), os.Symlink("real", filepath.Join(dir, "link"))); err != nil {
		t.Fatal(err)
	}
	_, err := loadRemote(file)
	want := []string{
		"acmeproxy.yaml:4: certificates[1].names: certificates[0] (line 2) has the same names; remove one of the two, or give each a name",
		"acmeproxy.yaml:7: certificates[2].out: certificates[0] (line 2) is written there too; each needs a folder of its own",
		"acmeproxy.yaml:9: certificates[3].name: certificates[2] (line 5) has it already; write another",
		`acmeproxy.yaml:18: certificates[7].name: "../d" starts with '.'; start with a letter or a digit`,
	}
	if diff := cmp.Diff(want, faults(file, err)); diff != "" {
		t.Error(diff)
	}
}

// An entry that repeats an earlier one, as earlier releases accepted it, is no fault.
// With another setting it is one, which names both lines (X43).
func TestRepeatedEntries(t *testing.T) {
	const entry = "  - names: [b.example.com, a.example.com]\n    mode: agent\n    hook: x\n"
	file := write(t, "certificates:\n"+entry+"  - names: c.example.com\n"+strings.Replace(entry, "b.example.com, a", "A.example.com, b", 1)+entry)
	all, err := loadRemote(file)
	if err != nil || len(all) != 4 {
		t.Fatal(all, err)
	}
	unique, repeated := all.Unique()
	if diff := cmp.Diff([]Repetition{{2, 0}, {3, 0}}, repeated); diff != "" || len(unique) != 2 || unique[1].First != "c.example.com" {
		t.Error(unique, diff)
	}
	for _, other := range []string{"hook: y", "out: web", "key-type: ec384"} {
		file := write(t, "certificates:\n"+entry+strings.Replace(entry, "hook: x", other, 1))
		_, err := loadRemote(file)
		want := []string{"acmeproxy.yaml:5: certificates[1].names: certificates[0] (line 2) has the same names; remove one of the two, or give each a name"}
		if diff := cmp.Diff(want, faults(file, err)); diff != "" {
			t.Error(other, diff)
		}
	}
}

// A relative out starts at the file's folder, even if the file has a relative path.
func TestRelativeFile(t *testing.T) {
	file := write(t, "certificates: [{names: a.example.com, out: a}]\n")
	dir, err := filepath.EvalSymlinks(filepath.Dir(file))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	got, err := loadRemote(filepath.Base(file))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "a"); got[0].Out != want {
		t.Errorf("got %s, want %s", got[0].Out, want)
	}
}

func TestNoRemoteCertificates(t *testing.T) {
	for _, text := range []string{"", "poll: 15m\n", "certificates:\n", "certificates: []\n"} {
		if got, err := loadRemote(write(t, text)); err != nil || len(got) != 0 {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
	if _, err := loadRemote(filepath.Join(t.TempDir(), "none.yaml")); err == nil {
		t.Error("a missing file is not an empty one")
	}
}

func TestRemoteCertificateFaults(t *testing.T) {
	file := write(t, `certificates:
  - nmaes: a.example.com
    out: ""
  - names: [a.example.com, 5]
    mode: acme
    key-type: dsa
    hook: [a]
    extra: {hook: a}
  - names: "a.example.com,"
  - names: [a_b.example.com]
  - names: []
  - just text
  - names: ok.example.com
    out: x
  - names: other.example.com
    out: ./y/../x
    mode:
  - names: other.example.com
    out: ./y/../x
    profile: p
  - names: [`+strings.Repeat("a.example.com, ", 101)+`]
  - names: a.example.com
    names: b.example.com
`)
	_, err := loadRemote(file)
	want := []string{
		"acmeproxy.yaml:2: certificates[0].nmaes: unknown key; did you mean names?",
		"acmeproxy.yaml:3: certificates[0].out: is empty; write the folder for the files, such as /etc/ssl/web1, or remove the line",
		"acmeproxy.yaml:4: certificates[1].names[1]: this is a number; write a DNS name",
		`acmeproxy.yaml:5: certificates[1].mode: unknown mode "acme"; write agent or gateway`,
		`acmeproxy.yaml:6: certificates[1].key-type: unknown key type "dsa"; write one of ec256, ec384, rsa2048, rsa4096, rsa8192`,
		"acmeproxy.yaml:7: certificates[1].hook: this is a list; write text",
		"acmeproxy.yaml:8: certificates[1].extra: unknown key; known keys are format, hook, key-mode, key-type, mode, name, names, out, owner, pkcs12-password-file, profile",
		`acmeproxy.yaml:9: certificates[2].names: "a.example.com," has an empty name; join names by commas alone, such as a.example.com,b.example.com`,
		`acmeproxy.yaml:10: certificates[3].names: "a_b.example.com" is not a DNS name; write it like web1.example.com`,
		"acmeproxy.yaml:11: certificates[4].names: no name given; write at least one DNS name, such as web1.example.com",
		"acmeproxy.yaml:12: certificates[5]: this is text; write keys such as names:",
		"acmeproxy.yaml:16: certificates[7].out: certificates[6] (line 13) is written there too; each needs a folder of its own",
		"acmeproxy.yaml:17: certificates[7].mode: has no value; write agent or gateway, or remove the line",
		"acmeproxy.yaml:18: certificates[8].names: certificates[7] (line 15) has the same names; remove one of the two, or give each a name",
		"acmeproxy.yaml:19: certificates[8].out: certificates[6] (line 13) is written there too; each needs a folder of its own",
		"acmeproxy.yaml:21: certificates[9].names: 101 names are too many for one certificate; the limit is 100",
		"acmeproxy.yaml:23: certificates[10].names: also set on line 22; keep one of the two",
	}
	if diff := cmp.Diff(want, faults(file, err)); diff != "" {
		t.Error(diff)
	}
	file = write(t, "certificates: {names: a.example.com}\n")
	_, err = loadRemote(file)
	want = []string{"acmeproxy.yaml:1: certificates: this is a group of keys; write a list, each entry with a dash in front and keys such as names:"}
	if diff := cmp.Diff(want, faults(file, err)); diff != "" {
		t.Error(diff)
	}
}

// X10: formats in addition to the PEM files are checked together with the rest.
func TestRemoteLayoutFaults(t *testing.T) {
	file := write(t, `certificates:
  - names: a.example.com
    format: [jks, pkcs12]
    owner: "a:b:c"
    key-mode: 0640
  - names: b.example.com
    format:
    key-mode: "0644"
`)
	_, err := loadRemote(file)
	for _, want := range []string{
		`:3: certificates[0].format: "jks" is unknown; use pem, haproxy or pkcs12`,
		`:2: certificates[0].pkcs12-password-file: is missing`,
		`:4: certificates[0].owner: "a:b:c" is invalid`,
		`:5: certificates[0].key-mode: this is a number; write text, in quotes`,
		`:7: certificates[1].format: has no value`,
		`:8: certificates[1].key-mode: "0644" is not allowed for a key`,
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in:\n%v", want, err)
		}
	}
}
