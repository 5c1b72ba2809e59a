package proxytest

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// HookLog is a hook that writes its environment to a file at each run. It fails while
// its folder contains a file "broken".
type HookLog struct{ Dir string }

// NewHookLog returns a HookLog with a temporary folder.
func NewHookLog(t testing.TB) *HookLog { return &HookLog{t.TempDir()} }

// Command returns the shell command.
func (h *HookLog) Command() string {
	return fmt.Sprintf(`cd %s && env > tmp.$$ && mv tmp.$$ run.$(ls | grep -c '^run') && test ! -e broken`, h.Dir)
}

// Runs returns the environments of all runs so far.
func (h *HookLog) Runs(t testing.TB) (all []map[string]string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(h.Dir, "run.*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		env := map[string]string{}
		for line := range strings.Lines(string(data)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			env[name] = value
		}
		all = append(all, env)
	}
	return all
}

// Deployed waits until the hook has run n times. The test fails if it ran more often.
func (h *HookLog) Deployed(t testing.TB, n int) {
	t.Helper()
	watch.Until(t, fmt.Sprintf("the hook has run %d times", n), func() bool { return len(h.Runs(t)) >= n })
	if got := len(h.Runs(t)); got != n {
		t.Errorf("the hook ran %d times, want %d", got, n)
	}
}

// On returns the change that gives a proxy these certificates and the hook.
func (h *HookLog) On(domains ...string) func(*proxy.Config) {
	return func(c *proxy.Config) {
		c.Domains = domains
		c.CertificateObtainedHook = h.Command()
	}
}
