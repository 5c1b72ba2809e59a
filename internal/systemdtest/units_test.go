package systemdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/cmd"
	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

const program = "/usr/local/bin/acmeproxy"

func units(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../../contrib/systemd/*.service")
	if err != nil || len(files) == 0 {
		t.Fatalf("no units: %v", err)
	}
	texts := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[filepath.Base(file)] = string(text)
	}
	return texts
}

// systemd finds nothing to say about the units, once the program is there.
func TestVerify(t *testing.T) {
	analyze := pebbletest.Tool(t, "systemd-analyze")
	for name, text := range units(t) {
		file := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(file, []byte(strings.ReplaceAll(text, program, "/bin/true")), 0o600); err != nil {
			t.Fatal(err)
		}
		out, err := exec.CommandContext(t.Context(), analyze, "verify", "--man=no", file).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
	}
}

// What the units start is a command with flags that there are.
func TestCommandLines(t *testing.T) {
	for name, text := range units(t) {
		if lines := commandLines(t, name, text, "ExecStart"); len(lines) != 1 {
			t.Errorf("%s starts %q", name, lines)
		}
		commandLines(t, name, text, "ExecReload")
	}
}

// commandLines returns the commands of the program that a unit runs, and checks them.
func commandLines(t *testing.T, name, text, key string) (lines []string) {
	t.Helper()
	for line := range strings.Lines(text) {
		line, ok := strings.CutPrefix(strings.TrimSpace(line), key+"="+program+" ")
		if !ok {
			continue
		}
		lines = append(lines, line)
		c, args, err := cmd.Root().Find(strings.Fields(line))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := c.ParseFlags(args); err != nil || c.Flags().NArg() > 0 || c.HasSubCommands() {
			t.Errorf("%s: %s %q: %v", name, key, line, err)
		}
	}
	return lines
}

// X19: systemctl reload reloads both daemons. The proxy's own command is used, because
// its exit code reports a fault of the file, and with the same data directory.
func TestReload(t *testing.T) {
	all := units(t)
	serve := all["acmeproxy.service"]
	start, reload := commandLines(t, "acmeproxy", serve, "ExecStart"), commandLines(t, "acmeproxy", serve, "ExecReload")
	if len(start) != 1 || len(reload) != 1 || strings.TrimPrefix(start[0], "serve ") != strings.TrimPrefix(reload[0], "reload ") {
		t.Errorf("it starts %q and reloads %q", start, reload)
	}
	if !strings.Contains(all["acmeproxy-remote.service"], "\nExecReload=/bin/kill -HUP $MAINPID\n") {
		t.Error("the daemon on internal hosts is not reloaded")
	}
}

// No unit starts before the clock is right (X45).
func TestTimeSync(t *testing.T) {
	for name, text := range units(t) {
		for _, setting := range []string{"Wants", "After"} {
			_, rest, _ := strings.Cut(text, "\n"+setting+"=")
			line, _, _ := strings.Cut(rest, "\n")
			if !slices.Contains(strings.Fields(line), "time-sync.target") {
				t.Errorf("%s: %s=%s", name, setting, line)
			}
		}
	}
}
