//go:build unix

package certfile_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// run gives what a program that is installed says.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("NOT TESTED: %s is not installed", name)
	}
	out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// X10: those whom the formats are for can read them, with keys of every type.
func TestFormatsAreRead(t *testing.T) {
	for _, keyType := range []cert.KeyType{cert.EC256, cert.EC384, cert.RSA2048} {
		folder := t.TempDir()
		dir := filepath.Join(folder, "set")
		l := newEverything(t, folder)
		b, err := newBundleOf(1, keyType)
		if err != nil {
			t.Fatal(err)
		}
		writeAs(t, l, dir, b)
		key, err := b.KeyPEM()
		if err != nil {
			t.Fatal(err)
		}
		t.Run("openssl "+string(keyType), func(t *testing.T) {
			got := run(t, "openssl", "pkcs12", "-in", filepath.Join(dir, "bundle.p12"), "-passin", "pass:"+password, "-nodes")
			parsed, err := cert.ParseBundle([]byte(got))
			if err != nil {
				t.Fatalf("%v\n%s", err, got)
			}
			if !parsed.Leaf.Equal(b.Leaf) || !cert.SameKey(parsed.Key.Public(), b.Key.Public()) || len(parsed.Chain) != len(b.Chain) {
				t.Error("openssl read another bundle")
			}
			for file, want := range map[string]string{"privkey.pem": string(key), "haproxy.pem": string(key)} {
				if got := run(t, "openssl", "pkey", "-in", filepath.Join(dir, file)); got != want {
					t.Errorf("the key in %s is another", file)
				}
			}
		})
		t.Run("keytool "+string(keyType), func(t *testing.T) {
			got := run(t, "keytool", "-list", "-keystore", filepath.Join(dir, "bundle.p12"), "-storepass", password)
			if !strings.Contains(got, "PrivateKeyEntry") {
				t.Errorf("keytool sees no key:\n%s", got)
			}
		})
		t.Run("haproxy "+string(keyType), func(t *testing.T) {
			config := filepath.Join(folder, "haproxy.cfg")
			text := fmt.Sprintf("defaults\n mode http\n timeout client 1s\nfrontend f\n bind unix@%s/s ssl crt %s\n", folder, filepath.Join(dir, "haproxy.pem"))
			if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			run(t, "haproxy", "-c", "-f", config)
		})
	}
}

// X10: modes, and formats that are not wanted any more.
func TestLayoutChanges(t *testing.T) {
	folder := t.TempDir()
	dir, b := filepath.Join(folder, "set"), bundle(t, 1)
	all := newEverything(t, folder)
	writeAs(t, all, dir, b)
	modes(t, dir, map[string]fs.FileMode{"privkey.pem": 0o600, "haproxy.pem": 0o600, "bundle.p12": 0o600, "cert.pem": 0o644, "fullchain.pem": 0o644, "chain.pem": 0o644})

	group := all
	group.KeyMode = "0640"
	if group.Holds(dir, b) {
		t.Error("another mode is wanted")
	}
	writeAs(t, group, dir, b)
	modes(t, dir, map[string]fs.FileMode{"privkey.pem": 0o640, "haproxy.pem": 0o640, "bundle.p12": 0o640, "cert.pem": 0o644})

	if err := os.WriteFile(all.PKCS12PasswordFile, []byte("another"), 0o600); err != nil {
		t.Fatal(err)
	}
	if group.Holds(dir, b) {
		t.Error("another password is wanted")
	}
	writeAs(t, group, dir, b)

	pem := certfile.Layout{Formats: []string{"pem"}}
	if pem.Holds(dir, b) {
		t.Error("fewer formats are wanted")
	}
	writeAs(t, pem, dir, b)
	for _, name := range []string{"haproxy.pem", "bundle.p12"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); !os.IsNotExist(err) {
			t.Errorf("%s is left behind: %v", name, err)
		}
	}
	// What is not ours stays.
	own := filepath.Join(dir, "haproxy.pem")
	if err := os.WriteFile(own, []byte("the administrator's"), 0o600); err != nil {
		t.Fatal(err)
	}
	writeAs(t, pem, dir, bundle(t, 2))
	if got, err := os.ReadFile(own); err != nil || string(got) != "the administrator's" {
		t.Errorf("%q, %v", got, err)
	}
}

func modes(t *testing.T, dir string, want map[string]fs.FileMode) {
	t.Helper()
	for name, mode := range want {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if info.Mode().Perm() != mode {
			t.Errorf("%s has mode %v, want %v", name, info.Mode(), mode)
		}
	}
}

// X10: root gives the files away; by name, by number, the group alone.
func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can give files away")
	}
	dir, b := filepath.Join(t.TempDir(), "set"), bundle(t, 1)
	for owner, want := range map[string][2]uint32{"65534:12345": {65534, 12345}, "nobody": {65534, 0}, ":54321": {0, 54321}, "root:0": {0, 0}} {
		l := certfile.Layout{Owner: owner, Formats: []string{"haproxy"}, KeyMode: "0440"}
		writeAs(t, l, dir, b)
		for _, name := range []string{"privkey.pem", "haproxy.pem", "cert.pem"} {
			var got unix.Stat_t
			if err := unix.Stat(filepath.Join(dir, name), &got); err != nil {
				t.Fatal(err)
			}
			if got.Uid != want[0] || got.Gid != want[1] {
				t.Errorf("%s: %s belongs to %d:%d, want %v", owner, name, got.Uid, got.Gid, want)
			}
		}
	}
	if (certfile.Layout{Owner: "nobody", Formats: []string{"haproxy"}, KeyMode: "0440"}).Write(t.Context(), dir, b) != nil ||
		(certfile.Layout{Owner: "daemon", Formats: []string{"haproxy"}, KeyMode: "0440"}).Holds(dir, b) {
		t.Error("another owner is wanted")
	}
}

// X10: a write that cannot be finished leaves the old set whole.
func TestFailedLayout(t *testing.T) {
	folder := t.TempDir()
	dir, old := filepath.Join(folder, "set"), bundle(t, 1)
	all := newEverything(t, folder)
	writeAs(t, all, dir, old)
	umlaut := filepath.Join(folder, "umlaut")
	if err := os.WriteFile(umlaut, []byte("sch\u00f6n\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	empty, pipe := filepath.Join(folder, "empty"), filepath.Join(folder, "pipe")
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), unix.Mkfifo(pipe, 0o600)); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]struct {
		layout certfile.Layout
		want   string
	}{
		"user":          {certfile.Layout{Owner: "no-such-user"}, `owner: no user "no-such-user"`},
		"group":         {certfile.Layout{Owner: "root:no-such-group"}, `owner: no group "no-such-group"`},
		"password file": {certfile.Layout{Formats: []string{"pkcs12"}, PKCS12PasswordFile: filepath.Join(folder, "none")}, "pkcs12-password-file: open"},
		"password":      {certfile.Layout{Formats: []string{"pkcs12"}, PKCS12PasswordFile: empty}, "is empty"},
		"pipe":          {certfile.Layout{Formats: []string{"pkcs12"}, PKCS12PasswordFile: pipe}, "not a regular file"},
		"umlaut":        {certfile.Layout{Formats: []string{"pkcs12"}, PKCS12PasswordFile: umlaut}, "not plain ASCII"},
		"mode":          {certfile.Layout{KeyMode: "0666"}, "key-mode"},
		"format":        {certfile.Layout{Formats: []string{"jks"}}, `format: "jks"`},
	} {
		if err := change.layout.Ready(); err == nil || !strings.Contains(err.Error(), change.want) {
			t.Errorf("%s: %v, want %q", name, err, change.want)
		}
		if err := change.layout.Write(t.Context(), dir, bundle(t, 2)); err == nil {
			t.Errorf("%s: written", name)
		}
	}
	if !all.Holds(dir, old) {
		t.Error("the old set is not whole any more")
	}
	if left := versionsIn(t, dir); len(left) != 1 {
		t.Errorf("left behind: %q", left)
	}
}
