package cmd_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/acmeproxy/acmeproxy/cmd"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"acmeproxy": func() { os.Exit(cmd.Execute()) },
	})
}

// TestScripts runs scripts with whole processes. Each script has its own acmeproxy,
// as shipped, and its own stock Pebble.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"absent":       absent,
			"calog":        caLog,
			"capture":      capture,
			"connectproxy": connectProxy,
			"exits":        exits,
			"field":        field,
			"gate":         gateCommand,
			"harmless":     harmless,
			"later":        later,
			"mode":         mode,
			"needs":        needs,
			"pebble":       startPebble,
			"poison":       poison,
			"postgres":     startPostgres,
			"present":      present,
			"revoked":      revoked,
			"serves":       serves,
			"sighup":       sendSignal(syscall.SIGHUP),
			"sigterm":      sendSignal(syscall.SIGTERM),
			"sshkey":       sshKey,
			"verify":       verify,
			"waitfor":      waitFor,
		},
		Condition: func(cond string) (bool, error) {
			if cond != "root" {
				return false, fmt.Errorf("unknown condition %q", cond)
			}
			return os.Geteuid() == 0, nil
		},
		Setup:               setup,
		RequireExplicitExec: true,
	})
}

// setup gives a script its own addresses and folders. The CA's address has no
// listener until pebble starts one. The developer's own settings are not used.
func setup(env *testscript.Env) error {
	s := &scriptState{t: env.T()}
	var err error
	if s.http, err = port(); err != nil {
		return err
	}
	if s.https, err = port(); err != nil {
		return err
	}
	unused, err := port()
	if err != nil {
		return err
	}
	sign, err := port()
	if err != nil {
		return err
	}
	readme, err := filepath.Abs("../README.md")
	if err != nil {
		return err
	}
	stored, err := filepath.Abs("testdata/stored")
	if err != nil {
		return err
	}
	env.Values[stateKey{}] = s
	env.Vars = append(env.Vars, "HOSTILE="+hostile, "HOME="+env.WorkDir, "XDG_STATE_HOME="+env.WorkDir, "NO_COLOR=1", "README="+readme, "STORED="+stored,
		"GORACE=atexit_sleep_ms=0", // otherwise each process with -race exits a second late
		fmt.Sprintf("ACMEPROXY_HTTP_ADDR=127.0.0.1:%d", s.http),
		fmt.Sprintf("ACMEPROXY_HTTPS_ADDR=127.0.0.1:%d", s.https),
		"ACMEPROXY_DATA_DIR="+env.WorkDir+"/data",
		"ACMEPROXY_STATE_DIR="+env.WorkDir+"/remote",
		fmt.Sprintf("ACMEPROXY_ACME_DIRECTORY_URL=https://127.0.0.1:%d/dir", unused),
		fmt.Sprintf("API=https://127.0.0.1:%d", s.https),
		fmt.Sprintf("HTTPS_PORT=%d", s.https),
		fmt.Sprintf("HTTP_PORT=%d", s.http),
		fmt.Sprintf("SIGN_PORT=%d", sign),
	)
	return nil
}

type stateKey struct{}

// scriptState holds the state that a script's commands share.
type scriptState struct {
	t           testscript.T
	http, https int
	ca          *pebbletest.Process // nil before pebble
	gate        *gate               // nil without pebble -gated
}

func state(ts *testscript.TestScript) *scriptState { return ts.Value(stateKey{}).(*scriptState) }

// lastPort is incremented for each port, so that no two scripts get the same one.
// The range is below pebbletest's.
var lastPort atomic.Int32 // shared by scripts that run in parallel

func port() (int, error) {
	const first, count = 10_000, 9_000
	lastPort.CompareAndSwap(0, rand.Int32N(count))
	for range 100 {
		p := first + int(lastPort.Add(1))%count
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", p))
		if err == nil {
			return p, l.Close()
		}
	}
	return 0, errors.New("no free port found")
}

// required reports whether a missing CA fails a script instead of skipping it.
func required() bool { return os.Getenv("ACMEPROXY_REQUIRE_PEBBLE") == "1" }

// startPebble starts a CA for this script and the proxy's addresses: pebble
// [-slow|-gated]. With -gated, the CA reaches port 80 while the gate is open.
// With -slow, the CA asks for a wait of three seconds wherever it can, so that the
// script can act in the middle of an issuance.
func startPebble(ts *testscript.TestScript, neg bool, args []string) {
	s := state(ts)
	options := pebbletest.ProcessOptions{HTTPPort: s.http}
	switch {
	case !neg && len(args) == 0:
	case !neg && len(args) == 1 && args[0] == "-slow":
		options.RetryAfterAuthz, options.RetryAfterOrder = 3, 3
	case !neg && len(args) == 1 && args[0] == "-gated":
		var err error
		s.gate, options.HTTPPort, err = newGate(s.http)
		ts.Check(err)
		ts.Defer(s.gate.close)
	default:
		ts.Fatalf("usage: pebble [-slow|-gated]")
	}
	ca, stop, err := pebbletest.Run(context.Background(), options)
	if errors.Is(err, pebbletest.ErrNotBuilt) && !required() {
		s.t.Skip("SKIP: " + err.Error())
	}
	ts.Check(err)
	ts.Defer(stop)
	ts.Check(os.WriteFile(ts.MkAbs("roots.pem"), ca.RootsPEM, 0o600))
	ts.Setenv("ACMEPROXY_ACME_DIRECTORY_URL", ca.DirectoryURL)
	ts.Setenv("LEGO_CA_CERTIFICATES", ca.ServerCAFile)
	ts.Setenv("DNS", ca.DNSAddr)
	s.ca = ca
}

// needs skips a script that cannot run without a program: needs PROGRAM…
func needs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: needs PROGRAM...")
	}
	for _, program := range args {
		_, err := exec.LookPath(program)
		if err != nil && !pebbletest.ToolsRequired() {
			state(ts).t.Skip("SKIP: " + err.Error())
		}
		ts.Check(err)
	}
}

// caLog searches what Pebble printed: [!] calog [-count=N] REGEXP
func caLog(ts *testscript.TestScript, neg bool, args []string) {
	want := -1
	if n, ok := strings.CutPrefix(args[0], "-count="); ok {
		var err error
		want, err = strconv.Atoi(n)
		ts.Check(err)
		args = args[1:]
	}
	re, err := regexp.Compile(args[0])
	ts.Check(err)
	log := state(ts).ca.Log()
	got := len(re.FindAllString(log, -1))
	if want >= 0 && got != want || want < 0 && (got > 0) == neg {
		ts.Fatalf("found %q %d times in the CA's log:\n%s", args[0], got, log)
	}
}

// waitFor waits until a command succeeds: waitfor COMMAND [ARG…], until a file
// exists: waitfor file PATH, or until the CA's log has a line: waitfor calog REGEXP.
func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) == 0 {
		ts.Fatalf("usage: [!] waitfor COMMAND [ARG...]")
	}
	const longest = 200 * time.Millisecond
	var last error
	pause := 10 * time.Millisecond
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); pause = min(2*pause, longest) {
		switch args[0] {
		case "file":
			_, last = os.Stat(ts.MkAbs(args[1]))
		case "calog":
			last = nil
			if !regexp.MustCompile(args[1]).MatchString(state(ts).ca.Log()) {
				last = errors.New("not in the CA's log")
			}
		default:
			last = ts.Exec(args[0], args[1:]...)
		}
		if (last == nil) != neg {
			return
		}
		<-time.After(pause) // leave the processor to others between two attempts
	}
	ts.Fatalf("waited a minute for %q: %v", args, last)
}

// exits runs a command and checks its exit code: exits CODE COMMAND [ARG…]
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE COMMAND [ARG...]")
	}
	got := 0
	var exit *exec.ExitError
	err := ts.Exec(args[1], args[2:]...)
	if errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// capture sets a variable to the match of a regular expression in the standard
// output of the last command: capture VAR REGEXP
func capture(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: capture VAR REGEXP")
	}
	found := regexp.MustCompile(args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if found == nil {
		ts.Fatalf("no %q in the output", args[1])
	}
	ts.Setenv(args[0], found[len(found)-1])
}

// sendSignal returns a command that sends a signal to the background command that
// begins with its arguments: sigterm COMMAND [ARG…], sighup COMMAND [ARG…]
func sendSignal(signal os.Signal) func(ts *testscript.TestScript, neg bool, args []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg || len(args) == 0 {
			ts.Fatalf("usage: sigterm|sighup COMMAND [ARG...]")
		}
		for _, c := range ts.BackgroundCmds() {
			if len(c.Args) >= len(args) && strings.HasSuffix(c.Args[0], args[0]) && slices.Equal(c.Args[1:len(args)], args[1:]) {
				ts.Check(c.Process.Signal(signal))
				return
			}
		}
		ts.Fatalf("no background command begins with %q", args)
	}
}
