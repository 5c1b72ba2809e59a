package pebbletest

import (
	"os"
	"os/exec"
	"testing"
)

// toolsVariable is set to 1 where every program that tests use is installed.
const toolsVariable = "ACMEPROXY_REQUIRE_TOOLS"

// Tool finds a program that a test uses, such as age or openssl. Where it is
// missing the test is skipped, unless ACMEPROXY_REQUIRE_TOOLS=1 is set, as in
// CI: then it fails.
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

// ToolsRequired tells whether a missing program fails a test.
func ToolsRequired() bool { return os.Getenv(toolsVariable) == "1" }
