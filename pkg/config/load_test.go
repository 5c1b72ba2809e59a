package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

// settings has a flag of every kind that commands use.
type settings struct {
	Text    string
	Switch  bool
	Int     int
	Int64   int64
	Uint    uint
	Float   float64
	Wait    time.Duration
	Array   []string
	Slice   []string
	Numbers []int
	Waits   []time.Duration
}

func defaults() settings {
	return settings{
		Text: "default", Int: 1, Int64: 1, Uint: 1, Float: 1, Wait: time.Second,
		Array: []string{"default"}, Slice: []string{"default"}, Numbers: []int{1}, Waits: []time.Duration{time.Second},
	}
}

func flags(s *settings) *pflag.FlagSet {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.StringVar(&s.Text, "a-text", s.Text, "")
	fs.BoolVar(&s.Switch, "a-switch", s.Switch, "")
	fs.IntVar(&s.Int, "an-int", s.Int, "")
	fs.Int64Var(&s.Int64, "an-int64", s.Int64, "")
	fs.UintVar(&s.Uint, "a-uint", s.Uint, "")
	fs.Float64Var(&s.Float, "a-float", s.Float, "")
	fs.DurationVar(&s.Wait, "a-wait", s.Wait, "")
	fs.StringArrayVar(&s.Array, "an-array", s.Array, "")
	fs.StringSliceVar(&s.Slice, "a-slice", s.Slice, "")
	fs.IntSliceVar(&s.Numbers, "numbers", s.Numbers, "")
	fs.DurationSliceVar(&s.Waits, "waits", s.Waits, "")
	fs.String("config", "", "")
	fs.Bool("help", false, "")
	return fs
}

// write makes acmeproxy.yaml.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "acmeproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// faults are the lines of an error, without the file's folder.
func faults(file string, err error) []string {
	if err == nil {
		return nil
	}
	return strings.Split(strings.ReplaceAll(err.Error(), filepath.Dir(file)+"/", ""), "\n")
}

// A31, A32, A38: flag > environment > file > default, for every kind of flag.
func TestPrecedence(t *testing.T) {
	for _, test := range []struct {
		flag            string
		args            []string
		env, file       string
		fromFlag, fromE any
		fromFile        any
		get             func(*settings) any
	}{
		{"a-text", []string{"--a-text=flag"}, "env is one text", "file", "flag", "env is one text", "file", func(s *settings) any { return s.Text }},
		{"a-switch", []string{"--a-switch=false"}, "true", "true", false, true, true, func(s *settings) any { return s.Switch }},
		{"an-int", []string{"--an-int=4"}, "-3", "2", 4, -3, 2, func(s *settings) any { return s.Int }},
		{"an-int64", []string{"--an-int64=4"}, "3", "-2", int64(4), int64(3), int64(-2), func(s *settings) any { return s.Int64 }},
		{"a-uint", []string{"--a-uint=4"}, "3", "0x10", uint(4), uint(3), uint(16), func(s *settings) any { return s.Uint }},
		{"a-float", []string{"--a-float=4"}, "3.5", "2", 4.0, 3.5, 2.0, func(s *settings) any { return s.Float }},
		{"a-wait", []string{"--a-wait=4s"}, "3m", "2h", 4 * time.Second, 3 * time.Minute, 2 * time.Hour, func(s *settings) any { return s.Wait }},
		{
			"an-array",
			[]string{"--an-array=f,g", "--an-array=h"},
			" e,f\tg\n", "[d, 'e,f g']",
			[]string{"f,g", "h"},
			[]string{"e,f", "g"},
			[]string{"d", "e,f g"},
			func(s *settings) any { return s.Array },
		},
		{
			"a-slice",
			[]string{"--a-slice=f,g"},
			"e", "one, two",
			[]string{"f", "g"},
			[]string{"e"},
			[]string{"one, two"},
			func(s *settings) any { return s.Slice },
		},
		{"numbers", []string{"--numbers=4"}, "3 2", "[2, 3]", []int{4}, []int{3, 2}, []int{2, 3}, func(s *settings) any { return s.Numbers }},
		{
			"waits",
			[]string{"--waits=4s"},
			"3s 2s", "2s",
			[]time.Duration{4 * time.Second},
			[]time.Duration{3 * time.Second, 2 * time.Second},
			[]time.Duration{2 * time.Second},
			func(s *settings) any { return s.Waits },
		},
	} {
		t.Run(test.flag, func(t *testing.T) {
			standard := defaults()
			for _, source := range []struct {
				name            string
				flag, env, file bool
				want            any
			}{
				{"default", false, false, false, test.get(&standard)},
				{"file", false, false, true, test.fromFile},
				{"environment", false, true, false, test.fromE},
				{"environment over file", false, true, true, test.fromE},
				{"flag over file", true, false, true, test.fromFlag},
				{"flag over all", true, true, true, test.fromFlag},
			} {
				t.Run(source.name, func(t *testing.T) {
					s := defaults()
					fs := flags(&s)
					if source.env {
						t.Setenv(EnvName(test.flag), test.env)
					}
					var file string
					if source.file {
						file = write(t, test.flag+": "+test.file+"\n")
					}
					if source.flag {
						if err := fs.Parse(test.args); err != nil {
							t.Fatal(err)
						}
					}
					if err := Load(fs, file); err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(source.want, test.get(&s)); diff != "" {
						t.Error(diff)
					}
					if fs.Changed(test.flag) != source.flag {
						t.Error("Changed must tell what was on the command line")
					}
				})
			}
		})
	}
}

// Every flag can be loaded again, as for a reload: the new file replaces lists.
func TestLoadTwice(t *testing.T) {
	s := defaults()
	fs := flags(&s)
	for _, want := range []string{"a", "b"} {
		if err := Load(fs, write(t, "an-array: ["+want+"]\n")); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{want}, s.Array); diff != "" {
			t.Error(diff)
		}
	}
}

func TestEmptyValues(t *testing.T) {
	t.Setenv("ACMEPROXY_A_TEXT", "") // as compose files and unit files leave them
	s := defaults()
	if err := Load(flags(&s), write(t, "a-text: ''\nan-array: []\n")); err != nil {
		t.Fatal(err)
	}
	if s.Text != "" || len(s.Array) != 0 {
		t.Errorf("got %q, %q: the file's empty values count", s.Text, s.Array)
	}
}

func TestFilesWithoutSettings(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "---\n# nothing\n...\n", "~\n", "{}\n"} {
		s := defaults()
		if err := Load(flags(&s), write(t, text)); err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(defaults(), s); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// Anchors save typing, also for an address that starts with a colon.
func TestYAMLWays(t *testing.T) {
	s := defaults()
	text := "a-text: &x :80\nan-array:\n  - *x\n  - \"quoted\"\na-slice: *x\na-switch: True\n"
	if err := Load(flags(&s), write(t, text)); err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Text, want.Array, want.Slice, want.Switch = ":80", []string{":80", "quoted"}, []string{":80"}, true
	if diff := cmp.Diff(want, s); diff != "" {
		t.Error(diff)
	}
}

// Every fault is reported at once with its key, its place and what to write.
func TestFaultsTogether(t *testing.T) {
	t.Setenv("ACMEPROXY_AN_INT64", "many")
	t.Setenv("ACMEPROXY_WAITS", "1s soon")
	file := write(t, `a-txt: x
a_switch: true
unheard-of: 1
a-text: 5
a-switch: yes
an-int: "7"
a-uint: -1
a-float: [1]
a-wait: 30
an-array: [a, 1, [b]]
numbers: {a: 1}
serve:
  a-text: x
  other: {a-text: y}
a-slice:
empty: {}
config: other.yaml
`)
	s := defaults()
	want := []string{
		"acmeproxy.yaml:1: a-txt: unknown key; did you mean a-text?",
		"acmeproxy.yaml:2: a_switch: unknown key; did you mean a-switch?",
		"acmeproxy.yaml:3: unheard-of: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, waits",
		"acmeproxy.yaml:4: a-text: this is a number; write text, in quotes",
		"acmeproxy.yaml:5: a-switch: this is text; write true or false, without quotes",
		"acmeproxy.yaml:6: an-int: this is text; write a whole number, without quotes",
		"acmeproxy.yaml:8: a-float: this is a list; write a number",
		"acmeproxy.yaml:9: a-wait: this is a number; write a time with its unit, such as 30s or 12h",
		"acmeproxy.yaml:10: an-array[1]: this is a number; write text, in quotes",
		"acmeproxy.yaml:10: an-array[2]: this is a list; write text",
		"acmeproxy.yaml:11: numbers: this is a group of keys; write a whole number",
		"acmeproxy.yaml:13: serve.a-text: unknown key; did you mean a-text? Write it at the start of its line, not below serve",
		"acmeproxy.yaml:14: serve.other: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, waits",
		"acmeproxy.yaml:15: a-slice: has no value; write text, or remove the line",
		"acmeproxy.yaml:16: empty: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, waits",
		"acmeproxy.yaml:17: config: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, waits",
		"acmeproxy.yaml: a-uint: write a whole number of 0 or more",
		"ACMEPROXY_AN_INT64: write a whole number",
		"ACMEPROXY_WAITS: write a time with its unit, such as 30s or 12h",
	}
	if diff := cmp.Diff(want, faults(file, Load(flags(&s), file))); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenFiles(t *testing.T) {
	for text, want := range map[string]string{
		"a-text: a\na-text: b\n":         "acmeproxy.yaml:2: a-text: also set on line 1; keep one of the two",
		"- a\n":                          "acmeproxy.yaml:1: write settings as lines such as hostname: acmeproxy.example.com",
		"just text\n":                    "acmeproxy.yaml:1: write settings as lines such as hostname: acmeproxy.example.com",
		"a-text: a\n---\na-text: b\n":    "acmeproxy.yaml: holds several YAML documents; keep one and remove the --- between them",
		"a-text: [a\n":                   "acmeproxy.yaml: not YAML: line 1: did not find expected ',' or ']'",
		"a-text: a: b\n":                 "acmeproxy.yaml: not YAML: mapping values are not allowed in this context",
		"a-text: *x\n":                   "acmeproxy.yaml: not YAML: unknown anchor 'x' referenced",
		"\xff\xfe\x00":                   "acmeproxy.yaml: not YAML: incomplete UTF-16 character",
		"1: x\n":                         "acmeproxy.yaml:1: 1: unknown key; remove it",
		"[a]: x\n":                       "acmeproxy.yaml:1: ?: unknown key; remove it",
		"\"a\\nb\": x\n":                 `acmeproxy.yaml:1: "a\nb": unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, waits`,
		"<<: {a-text: b}\n":              "acmeproxy.yaml:1: <<: unknown key; remove it",
		"A-Text: b\n":                    "acmeproxy.yaml:1: A-Text: unknown key; did you mean a-text?",
		"a-text: !!binary YQ==\n":        "acmeproxy.yaml:1: a-text: this is of another type; write text, in quotes",
		"a-text: 2026-01-01\n":           "acmeproxy.yaml:1: a-text: this is a date; write text, in quotes",
		"a-switch: !!bool perhaps\n":     "acmeproxy.yaml: a-switch: write true or false",
		"an-int: 99999999999999999999\n": "acmeproxy.yaml:1: an-int: this is a number; write a whole number",
		"a-wait: soon\n":                 "acmeproxy.yaml: a-wait: write a time with its unit, such as 30s or 12h",
	} {
		s := defaults()
		file := write(t, text)
		if diff := cmp.Diff([]string{want}, faults(file, Load(flags(&s), file))); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	large := write(t, strings.Repeat("# comment\n", maxFile/10+1))
	for file, want := range map[string]string{
		filepath.Join(t.TempDir(), "none.yaml"): "no such file",
		t.TempDir():                             "is a directory",
		large:                                   "larger than 1 MiB",
	} {
		s := defaults()
		err := Load(flags(&s), file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want the file and %q", err, want)
		}
	}
}

// A value of the wrong type may be a secret: it is not repeated.
func TestFaultsHideValues(t *testing.T) {
	t.Setenv("ACMEPROXY_AN_INT", "12345678s3cr3t")
	s := defaults()
	err := Load(flags(&s), write(t, "a-text: 12345678\na-switch: 12345678s3cr3t\na-wait: 12345678s3cr3t\n"))
	if err == nil || strings.Contains(err.Error(), "12345678") {
		t.Errorf("got %v", err)
	}
}

func TestWithKeys(t *testing.T) {
	s := defaults()
	file := write(t, "certificates:\n  - names: a.example.com\n    anything: {}\na-text: x\n")
	if err := Load(flags(&s), file, WithKeys(CertificatesKey)); err != nil || s.Text != "x" {
		t.Errorf("got %v, %q", err, s.Text)
	}
	if err := Load(flags(&s), file); err == nil || !strings.Contains(err.Error(), "certificates: unknown key") {
		t.Errorf("without the option: %v", err)
	}
}

func TestNearest(t *testing.T) {
	known := []string{"http-addr", "https-addr", "hostname", "email", "data-dir", "eab-kid"}
	for key, want := range map[string]string{
		"http-adr": "http-addr", "https_addr": "https-addr", "host-name": "hostname", "e-mail": "email",
		"DATA_DIR": "data-dir", "eab": "", "xyz": "", "": "", strings.Repeat("hostname", 1000): "",
	} {
		if got := Nearest(key, known); got != want {
			t.Errorf("%.20q: got %q, want %q", key, got, want)
		}
	}
}

// The YAML file comes from outside. Whatever it holds, it is read or reported:
// with one line for each fault, each naming the file.
func FuzzFile(f *testing.F) {
	for _, seed := range []string{
		"", "a-text: x\n", "an-array: [a, 'b,c']\n", "a-wait: 3s\nnumbers: [1, 2]\n", "serve: {a-text: x}\n",
		"a: &a [*a, *a]\n", "a-text: a\na-text: b\n", "certificates:\n- names: [a.example.com]\n  out: x\n",
		"certificates:\n- &c {names: 'a.example.com, b.example.com', mode: gateway, key-type: rsa2048}\n- *c\n",
		"---\n---\n", "? [a]\n: b\n", "\xff\xfea\x00", "<<: {a-text: b}\n", "a-switch: !!bool x\n", "a-text: |\n  x\n  y\n",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		const file = "acmeproxy.yaml"
		doc, err := parseDocument(file, data)
		if err == nil {
			s := defaults()
			var values map[string]any
			values, err = doc.settings(flags(&s), []string{CertificatesKey})
			for key, value := range values {
				if got := fmt.Sprintf("%T", value); got != "string" && got != "[]string" {
					t.Errorf("%q is a %s", key, got)
				}
			}
			var certs []RemoteCertificate
			var certErr error
			certs, certErr = doc.certificates("/etc/acmeproxy")
			for _, c := range certs {
				if len(c.Names) == 0 || c.Out != "" && !filepath.IsAbs(c.Out) {
					t.Errorf("accepted %+v", c)
				}
			}
			checkLines(t, file, certErr)
		}
		checkLines(t, file, err)
	})
}

func checkLines(t *testing.T, file string, err error) {
	t.Helper()
	for _, line := range faults("/none/none", err) {
		if !strings.HasPrefix(line, file+":") {
			t.Errorf("a fault has a line that does not name the file: %q", line)
		}
	}
}
