//go:build unix

package hook

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/acmeproxy/acmeproxy/pkg/dnsprovider"
)

// deadline bounds what a test waits for; it is never waited out when all is well.
const deadline = 20 * time.Second

// lineage is a folder in certbot's file names with recognisable content.
func lineage(t *testing.T) Event {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"cert", "chain", "fullchain", "privkey"} {
		if err := os.WriteFile(filepath.Join(dir, name+".pem"), []byte(name+" of mail"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Event{
		Names:         []string{"mail.example.com", "www.example.com"},
		Dir:           dir,
		CertPath:      filepath.Join(dir, "cert.pem"),
		ChainPath:     filepath.Join(dir, "chain.pem"),
		FullchainPath: filepath.Join(dir, "fullchain.pem"),
		KeyPath:       filepath.Join(dir, "privkey.pem"),
		Serial:        "03f1a2",
		NotAfter:      time.Date(2026, 5, 6, 9, 8, 9, 0, time.FixedZone("", 2*60*60)),
		Mode:          "acme-client",
		Email:         "ops@example.com",
	}
}

// seen runs `env` as the hook and returns what of it matters here.
func seen(t *testing.T, e Event) map[string]string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "env")
	t.Setenv("SEEN", file)
	if err := (Hook{Environ: os.Environ(), Command: `env >"$SEEN"`}).Run(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		for _, prefix := range []string{"ACMEPROXY_", "RENEWED_", "LEGO_"} {
			if strings.HasPrefix(name, prefix) {
				got[name] = value
			}
		}
	}
	return got
}

// A7, X11: a shell command sees the event in all three dialects.
func TestVariables(t *testing.T) {
	e := lineage(t)
	want := map[string]string{
		"ACMEPROXY_EVENT":          "certificate-obtained",
		"ACMEPROXY_MODE":           "acme-client",
		"ACMEPROXY_NAME":           "mail.example.com",
		"ACMEPROXY_NAMES":          "mail.example.com www.example.com",
		"ACMEPROXY_DIR":            e.Dir,
		"ACMEPROXY_CERT_PATH":      e.Dir + "/cert.pem",
		"ACMEPROXY_CHAIN_PATH":     e.Dir + "/chain.pem",
		"ACMEPROXY_FULLCHAIN_PATH": e.Dir + "/fullchain.pem",
		"ACMEPROXY_KEY_PATH":       e.Dir + "/privkey.pem",
		"ACMEPROXY_SERIAL":         "03f1a2",
		"ACMEPROXY_NOT_AFTER":      "2026-05-06T07:08:09Z",
		"RENEWED_LINEAGE":          e.Dir,
		"RENEWED_DOMAINS":          "mail.example.com www.example.com",
		"LEGO_ACCOUNT_EMAIL":       "ops@example.com",
		"LEGO_CERT_DOMAIN":         "mail.example.com",
		"LEGO_CERT_PATH":           e.Dir + "/fullchain.pem",
		"LEGO_CERT_KEY_PATH":       e.Dir + "/privkey.pem",
		"LEGO_ISSUER_CERT_PATH":    e.Dir + "/chain.pem",
	}
	if diff := cmp.Diff(want, seen(t, e)); diff != "" {
		t.Error(diff)
	}
}

// X11: the proxy's configuration and an outer hook's leftovers are not
// inherited, also where the event has nothing to say; the rest is.
func TestInheritedVariables(t *testing.T) {
	t.Setenv("ACMEPROXY_EAB_HMAC_KEY_FILE", "/etc/acmeproxy/eab")
	t.Setenv("ACMEPROXY_SERIAL", "stale")
	t.Setenv("LEGO_CERT_KEY_PATH", "/stale")
	t.Setenv("RENEWED_LINEAGE", "/stale")
	t.Setenv("LEGO_CA_CERTIFICATES", "/etc/root.pem")
	want := map[string]string{
		"ACMEPROXY_EVENT":      "certificate-obtained",
		"ACMEPROXY_NAME":       "a.example",
		"ACMEPROXY_NAMES":      "a.example",
		"RENEWED_DOMAINS":      "a.example",
		"LEGO_CERT_DOMAIN":     "a.example",
		"LEGO_CA_CERTIFICATES": "/etc/root.pem",
	}
	if diff := cmp.Diff(want, seen(t, Event{Names: []string{"a.example"}})); diff != "" {
		t.Error(diff)
	}
}

// A7, X11: neither a deploy hook nor a challenge's gets the secrets that the
// proxy reads from its environment; what people set for their hooks stays.
func TestWithheldVariables(t *testing.T) {
	for _, name := range []string{
		"DNSUPDATE_TSIG_SECRET", "DNSUPDATE_TSIG_SECRET_FILE", "DNSUPDATE_TSIG_FILE", "RFC2136_TSIG_SECRET", "EXEC_TOKEN",
		"HTTPREQ_PASSWORD", "HTTPREQ_PASSWORD_FILE", "ACME_DNS_STORAGE_PATH", "PGPASSWORD", "PGPASSFILE", "PGSSLPASSWORD", "ACMEPROXY_STORE",
	} {
		t.Setenv(name, "s3cret of "+name)
	}
	kept := []string{"SLACK_TOKEN", "PGHOST", "EXECUTOR", "DEPLOY_DNSUPDATE_KEY", "LC_ALL", "https_proxy"}
	for _, name := range kept {
		t.Setenv(name, "kept "+name)
	}
	file := filepath.Join(t.TempDir(), "env")
	t.Setenv("SEEN", file)
	h := Hook{Environ: os.Environ(), Command: `env >"$SEEN"`}
	for name, run := range map[string]func() error{
		"deploy":    func() error { return h.Run(t.Context(), lineage(t)) },
		"challenge": func() error { return h.RunChallenge(t.Context(), Challenge{Name: "a.example"}) },
	} {
		if err := run(); err != nil {
			t.Fatal(err)
		}
		seen, err := os.ReadFile(file)
		if err != nil || strings.Contains(string(seen), "s3cret") {
			t.Errorf("%s: %v, a hook sees\n%s", name, err, seen)
		}
		for _, v := range append(kept, "PATH") {
			if !strings.Contains(string(seen), "\n"+v+"="+os.Getenv(v)+"\n") && !strings.HasPrefix(string(seen), v+"=") {
				t.Errorf("%s: %s is missing", name, v)
			}
		}
	}
}

// A7, X11: a hook gets none of the variables that configure a DNS provider.
func TestHookGetsNoProviderVariables(t *testing.T) {
	variable := regexp.MustCompile(`[A-Z][A-Z0-9]*(_[A-Z0-9]+)+`)
	for _, p := range dnsprovider.All() {
		all := variable.FindAllString(p.Needs, -1)
		if len(all) == 0 {
			t.Errorf("%s needs no variable: %q", p.Name, p.Needs)
		}
		for _, name := range all {
			t.Setenv(name, "s3cret of "+p.Name)
		}
	}
	if err := (Hook{Environ: os.Environ(), Command: "! env | grep s3cret"}).Run(t.Context(), Event{}); err != nil {
		t.Error(err)
	}
}

// X11: deploy scripts written for certbot and lego run as they are.
func TestStockScripts(t *testing.T) {
	for _, test := range []struct {
		script, target string
		want           map[string]string
	}{
		{"certbot-deploy.sh", "DAEMON_CERT_ROOT", map[string]string{
			"mail.example.com.cert": "fullchain of mail",
			"mail.example.com.key":  "privkey of mail",
		}},
		{"lego-deploy.sh", "HAPROXY_DIR", map[string]string{
			"mail.example.com.crt":        "fullchain of mail",
			"mail.example.com.crt.key":    "privkey of mail",
			"mail.example.com.issuer.crt": "chain of mail",
			"log":                         "deployed mail.example.com for ops@example.com\n",
		}},
	} {
		t.Run(test.script, func(t *testing.T) {
			script, err := filepath.Abs(filepath.Join("testdata", test.script))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			t.Setenv(test.target, dir)
			if err := (Hook{Environ: os.Environ(), Command: "sh '" + script + "'"}).Run(t.Context(), lineage(t)); err != nil {
				t.Fatal(err)
			}
			got := map[string]string{}
			entries, err := os.ReadDir(dir)
			if err != nil {
				t.Fatal(err)
			}
			for _, entry := range entries {
				data, err := os.ReadFile(filepath.Join(dir, entry.Name()))
				if err != nil {
					t.Fatal(err)
				}
				got[entry.Name()] = string(data)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func run(t *testing.T, ctx context.Context, h Hook) *Error { //nolint:revive // t first, as everywhere else
	t.Helper()
	err := h.Run(ctx, Event{Names: []string{"a.example"}})
	var failed *Error
	if !errors.As(err, &failed) {
		t.Fatalf("got %v, want an *Error", err)
	}
	return failed
}

// A8: the caller learns how the hook failed, and what it said.
func TestFailure(t *testing.T) {
	for _, test := range []struct {
		name, command string
		code          int
		output, text  string
	}{
		{"exit 1", "echo to stdout; echo to stderr >&2; exit 1", 1, "to stdout\nto stderr", "hook: exited with code 1: to stdout\nto stderr"},
		{"silent", "exit 42", 42, "", "hook: exited with code 42"},
		{"not found", "exec /nonexistent/program 2>/dev/null", 127, "", "hook: exited with code 127"},
		{"killed", "kill -KILL $$", -1, "", "hook: signal: killed"},
		{"terminal codes", `printf '\033[2Jred\r\n\tok\377'; exit 1`, 1, "[2Jred\n\tok", "hook: exited with code 1: [2Jred\n\tok"},
	} {
		t.Run(test.name, func(t *testing.T) {
			failed := run(t, t.Context(), Hook{Environ: os.Environ(), Command: test.command})
			if failed.ExitCode != test.code || failed.Output != test.output || failed.Error() != test.text {
				t.Errorf("got code %d, output %q, error %q", failed.ExitCode, failed.Output, failed)
			}
		})
	}
}

// The command line may hold secrets; it is not repeated.
func TestErrorHidesCommand(t *testing.T) {
	failed := run(t, t.Context(), Hook{Environ: os.Environ(), Command: ": curl -H 'X-Token: s3cr3t'; exit 1"})
	if strings.Contains(failed.Error(), "s3cr3t") {
		t.Errorf("the error shows the command: %v", failed)
	}
}

func TestNoCommand(t *testing.T) {
	if err := (Hook{}).Run(t.Context(), Event{}); err != nil {
		t.Error(err)
	}
}

// A hook has no input: reading it ends at once.
func TestStdin(t *testing.T) {
	if err := (Hook{Environ: os.Environ(), Command: `test -z "$(cat)"`, Timeout: deadline}).Run(t.Context(), Event{}); err != nil {
		t.Error(err)
	}
}

// The last 4 KiB are kept, however much is written.
func TestOutputCap(t *testing.T) {
	failed := run(t, t.Context(), Hook{Environ: os.Environ(), Command: `i=0; while [ $i -lt 5000 ]; do echo "line $i"; i=$((i+1)); done; exit 1`})
	// A line break at either end is trimmed.
	if n := len(failed.Output); n > tailSize || n < tailSize-2 {
		t.Errorf("%d bytes kept, want %d", n, tailSize)
	}
	if !strings.HasSuffix(failed.Output, "line 4998\nline 4999") {
		t.Errorf("the end is missing: …%q", failed.Output[len(failed.Output)-30:])
	}
}

func TestTail(t *testing.T) {
	var all []byte
	var kept tail
	for i, size := range []int{0, 1, 100, tailSize - 101, 1, 0, tailSize, 7, tailSize + 1, 3 * tailSize, 12} {
		chunk := bytes.Repeat([]byte{byte('a' + i)}, size)
		if n, err := kept.Write(chunk); n != size || err != nil {
			t.Fatalf("write %d bytes: %d, %v", size, n, err)
		}
		all = append(all, chunk...)
		want := all[max(0, len(all)-tailSize):]
		if !bytes.Equal(kept.kept, want) || cap(kept.kept) > 4*tailSize {
			t.Fatalf("after chunk %d: %d bytes kept of capacity %d, want the last %d", i, len(kept.kept), cap(kept.kept), len(want))
		}
	}
}

func TestCancelledBefore(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	file := filepath.Join(t.TempDir(), "ran")
	t.Setenv("RAN", file)
	failed := run(t, ctx, Hook{Environ: os.Environ(), Command: `touch "$RAN"`})
	if !errors.Is(failed, context.Canceled) || failed.ExitCode != -1 {
		t.Errorf("got %v, code %d", failed, failed.ExitCode)
	}
	if _, err := os.Stat(file); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the command ran: %v", err)
	}
}

// fifo is how a test knows that processes live and die: they say ready and hold
// the pipe open, and the reader sees its end only when the last of them is gone.
type fifo struct {
	ready chan struct{}
	gone  chan error
}

func newFIFO(t *testing.T) fifo {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("FIFO", path)
	// Lets go of the reader when no process ever opened the pipe.
	t.Cleanup(func() {
		if w, err := os.OpenFile(path, os.O_RDWR, 0); err == nil {
			w.Close()
		}
	})
	f := fifo{make(chan struct{}), make(chan error, 1)}
	go func() {
		pipe, err := os.Open(path)
		if err != nil {
			f.gone <- err
			return
		}
		defer pipe.Close()
		r := bufio.NewReader(pipe)
		if line, err := r.ReadString('\n'); err != nil || line != "ready\n" {
			f.gone <- fmt.Errorf("read %q: %w", line, err)
			return
		}
		close(f.ready)
		_, err = io.Copy(io.Discard, r)
		f.gone <- err
	}()
	return f
}

func (f fifo) wait(t *testing.T) {
	t.Helper()
	select {
	case err := <-f.gone:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(deadline):
		t.Fatal("a process of the hook is still alive")
	}
}

// children are processes below the shell; each keeps the pipe open.
var children = map[string]string{
	"child":                        `exec 9>"$FIFO"; echo ready >&9; sleep 1000`,
	"grandchild":                   `(sh -c 'exec 9>"$FIFO"; echo ready >&9; sleep 1000') & wait`,
	"shell that ignores TERM":      `trap "" TERM; exec 9>"$FIFO"; echo ready >&9; while :; do sleep 1000; done`,
	"grandchild that ignores TERM": `(trap "" TERM; exec 9>"$FIFO" >/dev/null 2>&1; echo ready >&9; sleep 1000) & wait`,
}

// A36: a hook that is stopped leaves nothing running.
func TestCancelKillsGroup(t *testing.T) {
	for name, command := range children {
		t.Run(name, func(t *testing.T) {
			f := newFIFO(t)
			ctx, cancel := context.WithCancel(t.Context())
			go func() {
				<-f.ready
				cancel()
			}()
			failed := run(t, ctx, Hook{Environ: os.Environ(), Command: command, Timeout: deadline, grace: 50 * time.Millisecond})
			if !errors.Is(failed, context.Canceled) || errors.Is(failed, context.DeadlineExceeded) {
				t.Errorf("got %v", failed)
			}
			f.wait(t)
		})
	}
}

func TestTimeoutKillsGroup(t *testing.T) {
	for name, command := range children {
		t.Run(name, func(t *testing.T) {
			// A busy machine may not start the command in time: allow it more.
			for timeout := 100 * time.Millisecond; timeout < deadline; timeout *= 2 {
				f := newFIFO(t)
				failed := run(t, t.Context(), Hook{Environ: os.Environ(), Command: command, Timeout: timeout, grace: 50 * time.Millisecond})
				if !errors.Is(failed, context.DeadlineExceeded) || !strings.HasPrefix(failed.Error(), "hook: stopped after "+timeout.String()) {
					t.Errorf("got %v", failed)
				}
				select {
				case <-f.ready:
					f.wait(t)
					return
				default:
				}
			}
			t.Fatal("the command never came to run")
		})
	}
}

// A polite stop comes first: a script may clean up.
func TestStopIsPolite(t *testing.T) {
	f := newFIFO(t)
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-f.ready
		cancel()
	}()
	failed := run(t, ctx, Hook{Environ: os.Environ(), Command: `trap 'echo cleaned up; exit 0' TERM; (exec 9>"$FIFO"; echo ready >&9; exec sleep 1000) & wait`, grace: deadline})
	if !errors.Is(failed, context.Canceled) || failed.Output != "cleaned up" {
		t.Errorf("got %v", failed)
	}
	f.wait(t)
}

// A hook that starts a daemon and ends well has succeeded, though the daemon
// holds its output open; the daemon is left alone.
func TestDaemon(t *testing.T) {
	f := newFIFO(t)
	stop := filepath.Join(t.TempDir(), "stop")
	if err := syscall.Mkfifo(stop, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("STOP", stop)
	h := Hook{Environ: os.Environ(), Command: `(exec 9>"$FIFO"; echo ready >&9; read -r line <"$STOP") &`, grace: 50 * time.Millisecond}
	if err := h.Run(t.Context(), Event{}); err != nil {
		t.Fatal(err)
	}
	<-f.ready
	w, err := os.OpenFile(stop, os.O_WRONLY, 0) // waits for the daemon's read
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(w, "stop")
	w.Close()
	f.wait(t)
}
