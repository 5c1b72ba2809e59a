package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func summarize(t *testing.T, verbose bool, events string) string {
	t.Helper()
	var out strings.Builder
	r := newReport(&out, verbose)
	if err := r.read(strings.NewReader(events)); err != nil {
		t.Fatal(err)
	}
	r.summary()
	return out.String()
}

const events = `{"Action":"start","Package":"m"}
{"Action":"run","Package":"m","Test":"TestPass"}
{"Action":"output","Package":"m","Test":"TestPass","Output":"=== RUN   TestPass\n"}
{"Action":"output","Package":"m","Test":"TestPass","Output":"    a_test.go:3: hidden\n"}
{"Action":"output","Package":"m","Test":"TestPass","Output":"--- PASS: TestPass (0.00s)\n"}
{"Action":"pass","Package":"m","Test":"TestPass"}
{"Action":"output","Package":"m","Test":"TestRace","Output":"WARNING: DATA RACE\n"}
{"Action":"pass","Package":"m","Test":"TestRace"}
{"Action":"output","Package":"m","Test":"TestSkip","Output":"    a_test.go:4: first\n"}
{"Action":"output","Package":"m","Test":"TestSkip","Output":"    a_test.go:5: SKIP: podman is not installed\n"}
{"Action":"output","Package":"m","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"m","Test":"TestSkip"}
{"Action":"output","Package":"m","Test":"TestBad","Output":"=== RUN   TestBad\n"}
{"Action":"output","Package":"m","Test":"TestBad","Output":"    a_test.go:6: why\n"}
{"Action":"output","Package":"m","Test":"TestBad","Output":"--- FAIL: TestBad (0.00s)\n"}
{"Action":"fail","Package":"m","Test":"TestBad"}
{"Action":"output","Package":"m","Test":"TestHangs","Output":"panic: test timed out\n"}
{"Action":"output","Package":"m","Output":"FAIL\tm\t0.003s\n"}
{"Action":"fail","Package":"m"}
not an event
{"ImportPath":"b","Action":"build-output","Output":"b.go:2: undefined: x\n"}
{"ImportPath":"b","Action":"build-fail"}
{"Action":"output","Package":"b","Output":"FAIL\tb [build failed]\n"}
{"Action":"fail","Package":"b"}
{"Action":"output","Package":"n","Output":"?   \tn\t[no test files]\n"}
{"Action":"skip","Package":"n"}
{"Action":"output","Package":"o","Test":"TestSkip","Output":"--- SKIP: TestSkip (0.00s)\n"}
{"Action":"skip","Package":"o","Test":"TestSkip"}
{"Action":"output","Package":"o","Test":"TestSkip/sub","Output":"        b_test.go:5: NOT TESTED: podman is not installed\n"}
{"Action":"skip","Package":"o","Test":"TestSkip/sub"}
{"Action":"output","Package":"o","Output":"PASS\n"}
{"Action":"output","Package":"o","Output":"ok  \to\t0.003s\n"}
{"Action":"pass","Package":"o"}
`

func TestReport(t *testing.T) {
	t.Parallel()
	const want = `WARNING: DATA RACE
    a_test.go:6: why
--- FAIL: TestBad (0.00s)
FAIL	m	0.003s
panic: test timed out
not an event
b.go:2: undefined: x
FAIL	b [build failed]
?   	n	[no test files]
ok  	o	0.003s

failed (2):
  m TestBad
  b

skipped tests (3), by reason:
  no reason given
    o TestSkip
  podman is not installed
    m TestSkip
    o TestSkip/sub
`
	if diff := cmp.Diff(want, summarize(t, false, events)); diff != "" {
		t.Error(diff)
	}
	if got := summarize(t, true, events); !strings.Contains(got, "hidden") || !strings.Contains(got, "\nPASS\n") {
		t.Errorf("verbose: %s", got)
	}
	if got := summarize(t, false, `{"Action":"pass","Package":"m","Test":"TestPass"}`); got != "\nno test was skipped\n" {
		t.Errorf("one test: %q", got)
	}
	if got := summarize(t, false, ""); got != "" {
		t.Errorf("no test: %q", got)
	}
}

// The exit code is that of the command, and neither a failure nor its output is lost.
func TestRun(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":         "module m\n",
		"good/a_test.go": "package m\nimport \"testing\"\nfunc TestSkip(t *testing.T) { t.Skip(\"reason\") }\n",
		"once/a_test.go": `package m
import ("os"; "testing")
func TestOnce(t *testing.T) { t.Run("sub", func(t *testing.T) {
	if os.Mkdir("ran", 0o755) == nil { t.Error("the first time") }
}) }
func TestPass(t *testing.T) {}
`,
		"always/a_test.go": "package m\nimport \"testing\"\nfunc TestBad(t *testing.T) { t.Error(\"always\") }\n",
		"races/a_test.go":  "package m\nimport (\"os\"; \"testing\")\nfunc TestRace(t *testing.T) { if os.Mkdir(\"ran\", 0o755) == nil { t.Error(\"exit status 66\") } }\n",
		"panics/a_test.go": "package m\nimport \"testing\"\nfunc TestBad(t *testing.T) { panic(\"boom\") }\n",
	} {
		file := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	program, err := exec.LookPath("go")
	if err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		args  []string
		again bool
		code  int
		want  string
	}{
		{[]string{program, "-C", dir, "test", "-json", "./good"}, false, 0, "skipped tests (1), by reason:\n  reason\n    m/good TestSkip\n"},
		{[]string{program, "-C", dir, "test", "-json", "./good", "./panics"}, true, 1, "panic: boom"},
		{[]string{program, "-C", dir, "test", "-json", "./good", "./once"}, true, 0, "(2):\n  m/once TestOnce/sub\n  m/once TestOnce\n"},
		{[]string{program, "-C", dir, "test", "-json", "./races"}, true, 1, "failed (1):\n  m/races TestRace"},
		{[]string{program, "-C", dir, "test", "-json", "./always"}, true, 1, "failed (1):\n  m/always TestBad"},
		{[]string{program, "-C", dir, "test", "-json", "./always"}, false, 1, "failed (1):\n  m/always TestBad"},
		{[]string{program, "nonsense"}, false, 2, "unknown command"},
		{[]string{filepath.Join(dir, "none")}, false, 1, ""},
	} {
		var out, faults strings.Builder
		code, err := run(test.args, test.again, &out, &faults)
		if err != nil {
			code = max(code, 1)
		}
		if code != test.code || !strings.Contains(out.String()+faults.String(), test.want) {
			t.Errorf("%q: exit code %d, %v: %s%s", test.args, code, err, &out, &faults)
		}
	}
}
