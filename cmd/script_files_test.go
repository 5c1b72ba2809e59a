package cmd_test

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// verify checks a PEM set as a TLS server and its clients would: verify DIR NAME…
func verify(ts *testscript.TestScript, neg bool, args []string) {
	err := verifySet(ts, ts.MkAbs(args[0]), args[1:])
	if neg == (err == nil) {
		ts.Fatalf("verify %q: %v", args, err)
	}
}

func verifySet(ts *testscript.TestScript, dir string, names []string) error {
	b, err := certfile.Read(dir)
	if err != nil {
		return err
	}
	want, err := cert.ParseNames(names...)
	if err != nil {
		return err
	}
	got, err := b.Names()
	if err != nil {
		return err
	}
	if !got.Equal(want) {
		return fmt.Errorf("the certificate is for %s, want %s", got, want)
	}
	opts := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool()}
	opts.Roots.AppendCertsFromPEM(state(ts).ca.RootsPEM)
	for _, c := range b.Chain {
		opts.Intermediates.AddCert(c)
	}
	if _, err := b.Leaf.Verify(opts); err != nil {
		return err
	}
	info, err := os.Stat(filepath.Join(dir, certfile.Key))
	if err != nil {
		return err
	}
	if info.Mode().Perm() != 0o600 {
		return fmt.Errorf("the key's mode is %v, want 0600", info.Mode())
	}
	return nil
}

// field sets a variable to a part of a certificate: field VAR serial|keytype|key DIR
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field VAR serial|keytype|key DIR")
	}
	b, err := certfile.Read(ts.MkAbs(args[2]))
	ts.Check(err)
	value := b.Serial()
	switch args[1] {
	case "keytype":
		kt, err := cert.KeyTypeOf(b.Leaf.PublicKey)
		ts.Check(err)
		value = string(kt)
	case "key": // a line of the key, which no other file contains
		pem, err := b.KeyPEM()
		ts.Check(err)
		value = strings.Split(string(pem), "\n")[1]
	}
	ts.Setenv(args[0], value)
}

// absent searches one file, or every file below a folder, for texts and ignores
// their case: absent PATH TEXT…
func absent(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! absent")
	}
	if found := search(ts, args); len(found) > 0 {
		ts.Fatalf("found %q", found)
	}
}

// present shows that absent can find something: every text must occur.
func present(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! present")
	}
	for _, text := range args[1:] {
		if len(search(ts, []string{args[0], text})) == 0 {
			ts.Fatalf("%q is nowhere in %s", text, args[0])
		}
	}
}

func search(ts *testscript.TestScript, args []string) (found []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: absent|present PATH TEXT...")
	}
	files := 0
	err := filepath.WalkDir(ts.MkAbs(args[0]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		data, err := os.ReadFile(path)
		files++
		for _, text := range args[1:] {
			if text == "" {
				ts.Fatalf("an empty text is everywhere")
			}
			if bytes.Contains(bytes.ToLower(data), []byte(strings.ToLower(text))) {
				found = append(found, text+" in "+path)
			}
		}
		return err
	})
	ts.Check(err)
	if files == 0 {
		ts.Fatalf("there is no file in %s", args[0])
	}
	return found
}

// mode checks permissions: mode 0600 PATH…
func mode(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] mode PERMISSIONS PATH...")
	}
	for _, path := range args[1:] {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
			ts.Fatalf("%s has mode %s", path, got)
		}
	}
}

// revoked asks the CA whether a certificate is: [!] revoked SERIAL [REASON],
// the reason as a number.
func revoked(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: [!] revoked SERIAL [REASON]")
	}
	ca := state(ts).ca
	resp, err := ca.HTTPClient().Get(ca.ManagementURL + "/cert-status-by-serial/" + args[0])
	ts.Check(err)
	defer resp.Body.Close()
	var got struct {
		Status string
		Reason int
	}
	ts.Check(json.NewDecoder(resp.Body).Decode(&got))
	if (got.Status == "Revoked") == neg || len(args) == 2 && fmt.Sprint(got.Reason) != args[1] {
		ts.Fatalf("certificate %s: %+v", args[0], got)
	}
}
