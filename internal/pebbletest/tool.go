package pebbletest

import (
	"os"
	"os/exec"
	"testing"
)

// toolsVariable is set to 1 if every program that tests use must be installed.
const toolsVariable = "ACMEPROXY_REQUIRE_TOOLS"

// Tool returns the path of a program that a test uses, such as age or openssl. If it
// is missing, Tool skips the test, or fails it with ACMEPROXY_REQUIRE_TOOLS=1, as in
// CI.
func Tool(t testing.TB, name string) (path string) {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case ToolsRequired():
		t.Fatalf("%s is not installed, and %s=1 says that it must be", name, toolsVariable)
	default:
		t.Skipf("SKIP: %s is not installed; install it to run this test", name)
	}
	return ""
}

// ToolsRequired reports whether a missing program fails a test.
func ToolsRequired() bool { return os.Getenv(toolsVariable) == "1" }
