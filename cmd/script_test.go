package cmd_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/acmeproxy/acmeproxy/cmd"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"acmeproxy": func() { os.Exit(cmd.Execute()) },
	})
}

// TestScripts runs whole processes: acmeproxy as it is shipped against the
// stock Pebble, each script with both of its own.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"pebble":  startPebble,
			"waitfor": waitFor,
			"verify":  verify,
			"absent":  absent,
			"present": present,
			"mode":    mode,
			"field":   field,
		},
		Setup: func(env *testscript.Env) error {
			// Nothing of the developer's own settings may count.
			env.Vars = append(env.Vars, "HOME="+env.WorkDir, "XDG_STATE_HOME="+env.WorkDir, "NO_COLOR=1")
			env.Values[stateKey{}] = &scriptState{t: env.T()}
			return nil
		},
		RequireExplicitExec: true,
	})
}

type stateKey struct{}

// scriptState is what a script's commands share.
type scriptState struct {
	t  testscript.T
	ca *pebbletest.Process
}

func state(ts *testscript.TestScript) *scriptState { return ts.Value(stateKey{}).(*scriptState) }

// startPebble starts a CA of this script's own and sets what a proxy and a
// remote need: pebble [ENV=VALUE…].
func startPebble(ts *testscript.TestScript, neg bool, args []string) {
	if neg {
		ts.Fatalf("unsupported: ! pebble")
	}
	ca, stop, err := pebbletest.Run(context.Background(), pebbletest.ProcessOptions{Env: args})
	if errors.Is(err, pebbletest.ErrNotBuilt) && os.Getenv("ACMEPROXY_REQUIRE_PEBBLE") == "" {
		state(ts).t.Skip("SKIP: " + err.Error())
	}
	ts.Check(err)
	ts.Defer(stop)
	https, err := pebbletest.FreePort()
	ts.Check(err)
	roots := ts.MkAbs("roots.pem")
	ts.Check(os.WriteFile(roots, ca.RootsPEM, 0o600))
	for k, v := range map[string]string{
		"ACMEPROXY_ACME_DIRECTORY_URL": ca.DirectoryURL,
		"LEGO_CA_CERTIFICATES":         ca.ServerCAFile,
		"ACMEPROXY_HTTP_ADDR":          fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort),
		"ACMEPROXY_HTTPS_ADDR":         fmt.Sprintf("127.0.0.1:%d", https),
		"ACMEPROXY_DATA_DIR":           ts.MkAbs("data"),
		"ACMEPROXY_STATE_DIR":          ts.MkAbs("remote"),
		"API":                          fmt.Sprintf("https://127.0.0.1:%d", https),
		"PEBBLE":                       ca.ManagementURL,
	} {
		ts.Setenv(k, v)
	}
	state(ts).ca = ca
}

// waitFor runs a command until it succeeds: waitfor COMMAND [ARG…], or until a
// file is there: waitfor file PATH.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] waitfor COMMAND [ARG...]")
	}
	var last error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); pause() {
		if args[0] == "file" {
			_, last = os.Stat(ts.MkAbs(args[1]))
		} else {
			last = ts.Exec(args[0], args[1:]...)
		}
		if (last == nil) != neg {
			return
		}
	}
	ts.Fatalf("waited a minute for %q: %v", args, last)
}

// pause lets the machine breathe between two looks at a condition.
func pause() { <-time.After(20 * time.Millisecond) }

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
	if err != nil || !got.Equal(want) {
		return fmt.Errorf("the certificate is for %s (%v), want %s", got, err, want)
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
	if err != nil || info.Mode().Perm() != 0o600 {
		return fmt.Errorf("the key's mode is %v (%v), want 0600", info.Mode(), err)
	}
	return nil
}

// absent looks for texts in every byte of every file below a folder or in one
// file, whatever the case: absent PATH TEXT…
func absent(ts *testscript.TestScript, neg bool, args []string) {
	if found := search(ts, args); (len(found) > 0) != neg {
		ts.Fatalf("found %q", found)
	}
}

// present is the proof that absent can find something.
func present(ts *testscript.TestScript, neg bool, args []string) { absent(ts, !neg, args) }

func search(ts *testscript.TestScript, args []string) (found []string) {
	if len(args) < 2 {
		ts.Fatalf("usage: [!] absent|present PATH TEXT...")
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
	for _, path := range args[1:] {
		info, err := os.Stat(ts.MkAbs(path))
		ts.Check(err)
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); (got == args[0]) == neg {
			ts.Fatalf("%s has mode %s", path, got)
		}
	}
}

// field sets a variable to a part of a certificate: field VAR serial|key DIR
func field(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: field VAR serial|key DIR")
	}
	b, err := certfile.Read(ts.MkAbs(args[2]))
	ts.Check(err)
	value := b.Serial()
	if args[1] == "key" {
		pem, err := b.KeyPEM()
		ts.Check(err)
		value = strings.Split(string(pem), "\n")[1]
	}
	ts.Setenv(args[0], value)
}
