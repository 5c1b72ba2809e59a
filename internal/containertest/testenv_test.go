package containertest

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

const (
	root  = "../.."
	state = root + "/.test-env"
)

// lacking is the exit code of a script that misses something on this host.
const lacking = 3

// script runs scripts/test-env.sh and returns what it prints and its exit code.
func script(t *testing.T, args ...string) (out string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	return run(t, exec.CommandContext(ctx, "./scripts/test-env.sh", args...))
}

func run(t *testing.T, cmd *exec.Cmd) (out string, code int) {
	t.Helper()
	cmd.Dir = root
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // it cleans up
	cmd.WaitDelay = time.Minute
	data, err := cmd.CombinedOutput()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	t.Logf("%s (exit code %d)\n%s", strings.Join(cmd.Args, " "), cmd.ProcessState.ExitCode(), data)
	return string(data), cmd.ProcessState.ExitCode()
}

// podman is the program that the script has, with its storage and settings.
func podman(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	dir, err := filepath.Abs(state)
	if err != nil {
		t.Fatal(err)
	}
	run, err := os.Readlink(filepath.Join(dir, "run"))
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "podman", append([]string{
		"--log-level", "error", "--root", dir + "/storage", "--runroot", run + "/run", "--tmpdir", run + "/tmp",
		"--storage-driver", "vfs", "--network-config-dir", dir + "/networks",
	}, args...)...)
	cmd.Env = append(os.Environ(), "CONTAINERS_CONF="+dir+"/containers.conf")
	return cmd
}

// The result of this test depends on the whole program, which the go command
// does not know: it would take an old result for the new program's.
func dependOnProgram(t *testing.T) {
	t.Helper()
	for _, dir := range []string{"cmd", "pkg", "scripts", "go.mod", "Containerfile", "Makefile"} {
		if err := filepath.WalkDir(filepath.Join(root, dir), func(path string, _ fs.DirEntry, err error) error {
			if err == nil {
				_, err = os.Stat(path)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
}

// A40: the image serves, not as root, and its volume keeps the data. A41: one
// command starts the environment, in which certificates are obtained, and one
// removes all of it.
func TestEnvironment(t *testing.T) {
	pebbletest.Tool(t, "podman")
	dependOnProgram(t)
	if _, err := os.Lstat(state); err == nil {
		t.Fatal("the environment is in use; stop it first: ./scripts/test-env.sh stop")
	}
	out, code := script(t, "start")
	if code == lacking && !pebbletest.ToolsRequired() {
		t.Skip("SKIP: this host lacks what is named above")
	}
	if code != 0 {
		t.Fatal("it does not start")
	}
	t.Cleanup(func() { checkStop(t) })
	for _, want := range []string{
		"proxy runs as uid", "remote runs as uid", // A40; the script compares them with 0
		"pebble cannot reach a private host", "neighbour cannot reach the CA",
		"www.example.com: verified", "agent.web1.example.com: verified", "gateway.web1.example.com: verified",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("start does not say %q", want)
		}
	}
	t.Run("is running", func(t *testing.T) { mustRun(t, "already running", "start") })
	t.Run("status", func(t *testing.T) { mustRun(t, "www.example.com", "status") })
	t.Run("logs", func(t *testing.T) { mustRun(t, "msg=serving", "logs", "proxy") })
	t.Run("issue", func(t *testing.T) {
		mustRun(t, "new.web1.example.com", "run", "remote", "remote", "get", "new.web1.example.com")
	})
	t.Run("refuse", func(t *testing.T) {
		if out, code := script(t, "run", "remote", "remote", "get", "not.granted.example.com"); code == 0 || !strings.Contains(out, "not granted") {
			t.Error("a name that is not granted was not refused")
		}
	})
	t.Run("volume", func(t *testing.T) { // what is still there is in it, since no other folder can be written to
		if _, code := run(t, podman(t, "restart", "--time", "20", "proxy")); code != 0 {
			t.Fatal("cannot restart the proxy")
		}
		deadline := time.Now().Add(30 * time.Second)
		for {
			out, code := script(t, "run", "proxy", "clients", "list")
			if code == 0 && strings.Contains(out, "web1") {
				return
			}
			if code == 0 || time.Now().After(deadline) { // it answers, or never will
				t.Fatal("the client is gone")
			}
		}
	})
}

func mustRun(t *testing.T, want string, args ...string) {
	t.Helper()
	if out, code := script(t, args...); code != 0 || !strings.Contains(out, want) {
		t.Errorf("exit code %d, and no %q", code, want)
	}
}

// checkStop stops the environment; nothing of it is left.
func checkStop(t *testing.T) {
	t.Helper()
	stop := exec.CommandContext(context.Background(), "./scripts/test-env.sh", "stop") // t.Context() is over
	if out, code := run(t, stop); code != 0 || !strings.Contains(out, "nothing is left") {
		t.Error("stop failed")
	}
	if _, err := os.Lstat(state); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", state, err)
	}
	abs, err := filepath.Abs(state)
	if err != nil {
		t.Fatal(err)
	}
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range commands {
		if line, err := os.ReadFile(file); err == nil && strings.Contains(string(line), abs) {
			t.Errorf("still running: %s", strings.ReplaceAll(string(line), "\x00", " "))
		}
	}
}
