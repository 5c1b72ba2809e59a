package pebbletest

import (
	"context"
	"errors"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/acme"
)

// The stock program issues a certificate.
func TestStartProcess(t *testing.T) {
	t.Parallel()
	p := StartProcess(t, ProcessOptions{})
	answers := startResponder(t, p.HTTPPort)
	client := newACMEClient(t, p.DirectoryURL, p.HTTPClient())
	chain, err := issue(t.Context(), client, answers, newKey(t), "www.example.com")
	if err != nil {
		t.Fatal(err)
	}
	checkChain(t, chain, p.RootsPEM, "www.example.com")
	if !strings.Contains(p.Log(), "Issued certificate serial") {
		t.Errorf("the log does not tell of the certificate:\n%s", p.Log())
	}
	if got, err := os.ReadFile(p.ServerCAFile); err != nil || string(got) != string(p.ServerCAPEM) {
		t.Errorf("ServerCAFile does not hold ServerCAPEM (error: %v)", err)
	}
}

// stop leaves no program and no file. A new Pebble on the same port knows no account.
func TestRunStop(t *testing.T) {
	t.Parallel()
	StartProcess(t, ProcessOptions{}) // skips if Pebble is not built
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	first, stop, err := Run(t.Context(), ProcessOptions{Port: port})
	if err != nil {
		t.Fatal(err)
	}
	client := newACMEClient(t, first.DirectoryURL, first.HTTPClient())
	stop()
	stop()
	for _, c := range first.cmds {
		if c.cmd.ProcessState == nil {
			t.Errorf("%s still runs", c.cmd.Path)
		}
	}
	if _, err := os.Stat(first.dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left (error: %v)", first.dir, err)
	}

	second := StartProcess(t, ProcessOptions{Port: port})
	if second.DirectoryURL != first.DirectoryURL {
		t.Fatalf("directory is %s, want %s again", second.DirectoryURL, first.DirectoryURL)
	}
	again := &acme.Client{Key: client.Key, DirectoryURL: second.DirectoryURL, HTTPClient: second.HTTPClient()}
	if _, err := again.GetReg(t.Context(), ""); !errors.Is(err, acme.ErrNoAccount) {
		t.Errorf("account after the restart: error %v, want %v", err, acme.ErrNoAccount)
	}
}

// Env replaces the defaults.
func TestStartProcessEnv(t *testing.T) {
	t.Parallel()
	p := StartProcess(t, ProcessOptions{Env: []string{"PEBBLE_WFE_NONCEREJECT=17"}})
	for _, want := range []string{"reject 17% of good nonces", "authz reuse for each identifier 0%", "Disabling random VA sleeps"} {
		if !strings.Contains(p.Log(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.Log())
		}
	}
}

// The DNS server fails on request.
func TestStartProcessDNSManagement(t *testing.T) {
	t.Parallel()
	p := StartProcess(t, ProcessOptions{})
	resp, err := http.Post(p.DNSManagementURL+"/set-servfail", "application/json", strings.NewReader(`{"host":"www.example.com"}`))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	client := newACMEClient(t, p.DirectoryURL, p.HTTPClient())
	answers := startResponder(t, p.HTTPPort)
	_, err = issue(t.Context(), client, answers, newKey(t), "www.example.com")
	var authzErr *acme.AuthorizationError
	if !errors.As(err, &authzErr) {
		t.Errorf("issue: error %v, want a failed authorization", err)
	}
}

// If Pebble cannot start, Run reports the reason at once.
func TestRunBadConfiguration(t *testing.T) {
	t.Parallel()
	StartProcess(t, ProcessOptions{}) // skips if Pebble is not built
	_, _, err := Run(t.Context(), ProcessOptions{EAB: map[string]string{"kid": "not base64!"}})
	if err == nil || !strings.Contains(err.Error(), "external account bindings") {
		t.Errorf("run: error %v, want the reason from Pebble's log", err)
	}
}

func TestRunNotBuilt(t *testing.T) {
	t.Parallel()
	if _, _, err := Run(t.Context(), ProcessOptions{BinDir: t.TempDir()}); !errors.Is(err, ErrNotBuilt) {
		t.Errorf("run: error %v, want %v", err, ErrNotBuilt)
	}
}

// A42: without Pebble a test is skipped with a message, or fails if Pebble is
// required.
func TestStartProcessNotBuilt(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("PEBBLETEST_EMPTY_DIR"); dir != "" {
		StartProcess(t, ProcessOptions{BinDir: dir})
		t.Fatal("Pebble started from an empty directory")
	}
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	run := func(require string) (string, error) {
		cmd := exec.CommandContext(context.Background(), self, "-test.run=^TestStartProcessNotBuilt$", "-test.v")
		cmd.Env = append(os.Environ(), "PEBBLETEST_EMPTY_DIR="+t.TempDir(), requireVariable+"="+require)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	const message = ".pebble/bin/pebble is not built; run make pebble / make test"
	if out, err := run(""); err != nil || !strings.Contains(out, "SKIP: "+message) || !strings.Contains(out, "--- SKIP") {
		t.Errorf("not required: want SKIP, got error %v:\n%s", err, out)
	}
	if out, err := run("1"); err == nil || !strings.Contains(out, message) || !strings.Contains(out, "--- FAIL") {
		t.Errorf("required: want FAIL, got error %v:\n%s", err, out)
	}
}

// Both variants are the same version of Pebble.
func TestSameVersion(t *testing.T) {
	t.Parallel()
	version := regexp.MustCompile(`github\.com/letsencrypt/pebble/v2 (v\S+)`)
	var versions []string
	for _, name := range []string{"../../go.mod", "../../.pebble/go.mod"} {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		found := version.FindSubmatch(data)
		if found == nil {
			t.Fatalf("%s does not require Pebble", name)
		}
		versions = append(versions, string(found[1]))
	}
	if versions[0] != versions[1] {
		t.Errorf("go.mod has Pebble %s, .pebble/go.mod has %s", versions[0], versions[1])
	}
}
