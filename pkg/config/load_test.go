package config

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"reflect"
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

	Places map[string]place `yaml:"places"`
}

// place is a nested setting with a field of every kind.
type place struct {
	Port    uint16        `yaml:"port" required:"write the port to listen on"`
	Host    host          `yaml:"host" want:"an address such as 192.0.2.1"`
	File    string        `yaml:"file" config:"path,nonempty"`
	Weight  float64       `yaml:"weight"`
	Offset  int8          `yaml:"offset"`
	Timeout time.Duration `yaml:"timeout"`
	On      bool          `yaml:"on"`
	Rules   []rule        `yaml:"rules"`
}

type host struct{ IP net.IP }

func (h *host) UnmarshalText(text []byte) error { return h.IP.UnmarshalText(text) }

type rule struct {
	Name  string   `yaml:"name" required:"write a name"`
	Hosts []string `yaml:"hosts"`
}

func (r *rule) Check() error {
	if r.Name == "none" {
		return errors.New("name: none is reserved; write another")
	}
	return nil
}

func defaults() settings {
	return settings{
		Text: "default", Int: 1, Int64: 1, Uint: 1, Float: 1, Wait: time.Second,
		Array: []string{"default"}, Slice: []string{"default"}, Numbers: []int{1}, Waits: []time.Duration{time.Second},
	}
}

// bind binds flags to new settings.
func bind(fs *pflag.FlagSet) *settings {
	d := defaults()
	s := &d
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
	return s
}

// load reads a file without a command line.
func load(file string, ignored ...string) (*settings, error) {
	return Load(new(pflag.FlagSet), os.Getenv, file, bind, ignored...)
}

// write creates acmeproxy.yaml.
func write(t testing.TB, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "acmeproxy.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// faults returns the lines of an error, without the file's folder.
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
					fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
					bind(fs)
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
					s, err := Load(fs, os.Getenv, file, bind)
					if err != nil {
						t.Fatal(err)
					}
					if diff := cmp.Diff(source.want, test.get(s)); diff != "" {
						t.Error(diff)
					}
					if fs.Changed(test.flag) != source.flag {
						t.Error("Changed must report what was on the command line")
					}
				})
			}
		})
	}
}

// Settings can be loaded again while the first ones are in use. The first call leaves
// no state: a key that was removed from the file has its default again.
func TestLoadAgain(t *testing.T) {
	given := pflag.NewFlagSet("test", pflag.ContinueOnError)
	bind(given)
	if err := given.Parse([]string{"--an-int=7", "--a-slice=x,y"}); err != nil {
		t.Fatal(err)
	}
	t.Setenv("ACMEPROXY_A_FLOAT", "3.5")
	first, err := Load(given, os.Getenv, write(t, "an-array: [a]\na-text: first\nplaces: {a: {port: 1}}\nan-int: 1\n"), bind)
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Int, want.Slice, want.Float, want.Array, want.Text = 7, []string{"x", "y"}, 3.5, []string{"a"}, "first"
	want.Places = map[string]place{"a": {Port: 1}}
	reading := make(chan string)
	go func() { reading <- cmp.Diff(want, *first) }() // the race detector watches
	second, err := Load(given, os.Getenv, write(t, "an-array: [b]\nplaces: {b: {port: 2}}\n"), bind)
	if err != nil {
		t.Fatal(err)
	}
	if diff := <-reading + cmp.Diff(want, *first); diff != "" {
		t.Error("the first settings:", diff)
	}
	want.Array, want.Text, want.Places = []string{"b"}, "default", map[string]place{"b": {Port: 2}}
	if diff := cmp.Diff(want, *second); diff != "" {
		t.Error("the second settings:", diff)
	}
	second.Slice[0] = "changed"
	if first.Slice[0] != "x" || given.Lookup("a-slice").Value.String() != "[x,y]" {
		t.Error("settings share a list")
	}
}

// Maps and lists of structs are decoded into tagged Go structs.
func TestNested(t *testing.T) {
	file := write(t, `a-text: x
places:
  east: &east
    port: 443
    host: 192.0.2.1
    file: keys/../east
    weight: 2
    offset: -3
    timeout: 30s
    on: True
    rules:
      - name: first
        hosts: a
      - {name: second, hosts: [b, c]}
  west: *east
  "true": {port: 1, file: /etc/x/, rules: }
`)
	s, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	east := place{
		Port: 443, Host: host{net.IPv4(192, 0, 2, 1)}, File: filepath.Join(filepath.Dir(file), "east"),
		Weight: 2, Offset: -3, Timeout: 30 * time.Second, On: true,
		Rules: []rule{{"first", []string{"a"}}, {"second", []string{"b", "c"}}},
	}
	want := map[string]place{"east": east, "west": east, "true": {Port: 1, File: "/etc/x"}}
	if diff := cmp.Diff(want, s.Places); diff != "" || s.Text != "x" {
		t.Error(diff)
	}
}

// Faults of nested settings are reported together with those of flags.
func TestNestedFaults(t *testing.T) {
	file := write(t, `an-int: x
places:
  a:
    prt: 1
    host: 192.0.2.300
    file: ""
    weight: {}
    offset: 128
    timeout: 30
    on: !!bool perhaps
    rules: &rules
      - name: none
      - hosts: [1]
      - just text
    port-range: 2
  b: {port: 70000, rules: {}, timeout: 12345678s3cr3t}
  c: {}
  7: {}
  d:
  e: {port: 1, rules: *rules}
  a: {}
`)
	_, err := load(file)
	want := []string{
		"acmeproxy.yaml:1: an-int: this is text; write a whole number, without quotes",
		"acmeproxy.yaml:4: places.a.prt: unknown key; did you mean port?",
		"acmeproxy.yaml:5: places.a.host: write an address such as 192.0.2.1",
		"acmeproxy.yaml:6: places.a.file: is empty; write text, or remove the line",
		"acmeproxy.yaml:7: places.a.weight: this is a group of keys; write a number",
		"acmeproxy.yaml:8: places.a.offset: write a whole number, in decimal digits only",
		"acmeproxy.yaml:9: places.a.timeout: this is a number; write a time with its unit, such as 30s or 12h",
		"acmeproxy.yaml:10: places.a.on: write true or false",
		"acmeproxy.yaml:12: places.a.rules[0].name: none is reserved; write another",
		"acmeproxy.yaml:12: places.e.rules[0].name: none is reserved; write another",
		"acmeproxy.yaml:13: places.a.rules[1].hosts[0]: this is a number; write text, in quotes",
		"acmeproxy.yaml:13: places.a.rules[1].name: is missing; write a name",
		"acmeproxy.yaml:13: places.e.rules[1].hosts[0]: this is a number; write text, in quotes",
		"acmeproxy.yaml:13: places.e.rules[1].name: is missing; write a name",
		"acmeproxy.yaml:14: places.a.rules[2]: this is text; write keys such as name:",
		"acmeproxy.yaml:14: places.e.rules[2]: this is text; write keys such as name:",
		"acmeproxy.yaml:15: places.a.port-range: unknown key; known keys are file, host, offset, on, port, rules, timeout, weight",
		"acmeproxy.yaml:16: places.b.port: write a whole number of 0 or more",
		"acmeproxy.yaml:16: places.b.rules: this is a group of keys; write a list, each entry with a dash in front and keys such as name:",
		"acmeproxy.yaml:16: places.b.timeout: write a time with its unit, such as 30s or 12h",
		"acmeproxy.yaml:17: places.c.port: is missing; write the port to listen on",
		"acmeproxy.yaml:18: places.7: a name must be text; write it in quotes",
		"acmeproxy.yaml:19: places.d: this is empty; write keys such as port:",
		"acmeproxy.yaml:21: places.a: also set on line 3; keep one of the two",
	}
	if diff := cmp.Diff(want, faults(file, err)); diff != "" {
		t.Error(diff)
	}
}

// A small file cannot become large by aliases, and the number of reported faults is
// limited.
func TestNestedBounds(t *testing.T) {
	var text strings.Builder
	text.WriteString("places:\n  a: {port: 1, rules: &r [&x {name: a, hosts: [" + strings.Repeat("a,", 1000) + "]}" + strings.Repeat(",*x", 10_000) + "]}\n")
	for i := range 100 {
		fmt.Fprintf(&text, "  b%d: {port: 1, rules: *r}\n", i)
	}
	if _, err := load(write(t, text.String())); err == nil || !strings.HasSuffix(err.Error(), "aliases make this file too large; use fewer of them") {
		t.Errorf("aliases: %v", err)
	}
	file := write(t, "places: {a: {port: 1, rules: ["+strings.Repeat("x,", 1000)+"]}}\n")
	_, err := load(file)
	lines := faults(file, err)
	if len(lines) != maxFaults+1 || lines[maxFaults] != "acmeproxy.yaml: and 900 faults more" {
		t.Errorf("%d faults, the last one %q", len(lines), lines[len(lines)-1])
	}
}

func TestEmptyValues(t *testing.T) {
	t.Setenv("ACMEPROXY_A_TEXT", "") // as compose files and unit files leave them
	s, err := load(write(t, "a-text: ''\nan-array: []\n"))
	if err != nil {
		t.Fatal(err)
	}
	if s.Text != "" || len(s.Array) != 0 {
		t.Errorf("got %q, %q: the file's empty values count", s.Text, s.Array)
	}
}

func TestFilesWithoutSettings(t *testing.T) {
	for _, text := range []string{"", "# nothing\n", "---\n", "---\n# nothing\n...\n", "~\n", "{}\n"} {
		s, err := load(write(t, text))
		if err != nil {
			t.Errorf("%q: %v", text, err)
		}
		if diff := cmp.Diff(defaults(), *s); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

// Anchors work, also for an address that starts with a colon.
func TestYAMLWays(t *testing.T) {
	text := "a-text: &x :80\nan-array:\n  - *x\n  - \"quoted\"\na-slice: *x\na-switch: True\n"
	s, err := load(write(t, text))
	if err != nil {
		t.Fatal(err)
	}
	want := defaults()
	want.Text, want.Array, want.Slice, want.Switch = ":80", []string{":80", "quoted"}, []string{":80"}, true
	if diff := cmp.Diff(want, *s); diff != "" {
		t.Error(diff)
	}
}

// Every fault is reported at once with its key, its place and the fix.
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
	want := []string{
		"acmeproxy.yaml:1: a-txt: unknown key; did you mean a-text?",
		"acmeproxy.yaml:2: a_switch: unknown key; did you mean a-switch?",
		"acmeproxy.yaml:3: unheard-of: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, places, waits",
		"acmeproxy.yaml:4: a-text: this is a number; write text, in quotes",
		"acmeproxy.yaml:5: a-switch: this is text; write true or false, without quotes",
		"acmeproxy.yaml:6: an-int: this is text; write a whole number, without quotes",
		"acmeproxy.yaml:8: a-float: this is a list; write a number",
		"acmeproxy.yaml:9: a-wait: this is a number; write a time with its unit, such as 30s or 12h",
		"acmeproxy.yaml:10: an-array[1]: this is a number; write text, in quotes",
		"acmeproxy.yaml:10: an-array[2]: this is a list; write text",
		"acmeproxy.yaml:11: numbers: this is a group of keys; write a whole number",
		"acmeproxy.yaml:13: serve.a-text: unknown key; did you mean a-text? Write it at the start of its line, not below serve",
		"acmeproxy.yaml:14: serve.other: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, places, waits",
		"acmeproxy.yaml:15: a-slice: has no value; write text, or remove the line",
		"acmeproxy.yaml:16: empty: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, places, waits",
		"acmeproxy.yaml:17: config: unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, places, waits",
		"acmeproxy.yaml:7: a-uint: write a whole number of 0 or more",
		"ACMEPROXY_AN_INT64: write a whole number",
		"ACMEPROXY_WAITS: write a time with its unit, such as 30s or 12h",
	}
	_, err := load(file)
	if diff := cmp.Diff(want, faults(file, err)); diff != "" {
		t.Error(diff)
	}
}

func TestBrokenFiles(t *testing.T) {
	for text, want := range map[string]string{
		"a-text: a\na-text: b\n":         "acmeproxy.yaml:2: a-text: also set on line 1; keep one of the two",
		"- a\n":                          "acmeproxy.yaml:1: write settings as lines such as hostname: acmeproxy.example.com",
		"just text\n":                    "acmeproxy.yaml:1: write settings as lines such as hostname: acmeproxy.example.com",
		"a-text: a\n---\na-text: b\n":    "acmeproxy.yaml: holds several YAML documents; keep one and remove the --- between them",
		"a-text: [a\n":                   "acmeproxy.yaml:2: not YAML: did not find expected ',' or ']'; close the bracket, and separate entries by commas",
		"a-text: a: b\n":                 `acmeproxy.yaml:1: not YAML: mapping values are not allowed in this context; indent the line like its neighbours, and write text that contains ": " in quotes`,
		"a-text: *x\n":                   "acmeproxy.yaml: not YAML: unknown anchor 'x' referenced; write text that begins with * in quotes",
		"a-text: *.x\n":                  "acmeproxy.yaml:1: not YAML: did not find expected alphabetic or numeric character; write text that begins with * or & in quotes",
		"a-text: @x\n":                   "acmeproxy.yaml:1: not YAML: found character that cannot start any token; write text that begins with @, % or ` in quotes",
		"a-text:\tx\nan-array:\n\t- a\n": "acmeproxy.yaml:3: a tab indents this line; use spaces",
		"a-text: x\n \tan-int: 1\n":      "acmeproxy.yaml:2: a tab indents this line; use spaces",
		"an-array:\n  - a\n - b\n":       "acmeproxy.yaml:3: not YAML: did not find expected key; indent the lines here alike",
		"a-text: \"x\n":                  "acmeproxy.yaml:2: not YAML: found unexpected end of stream; close the quotes",
		"\xff\xfe\x00":                   "acmeproxy.yaml: not YAML: incomplete UTF-16 character; save the file as UTF-8",
		"1: x\n":                         "acmeproxy.yaml:1: 1: unknown key; remove it",
		"[a]: x\n":                       "acmeproxy.yaml:1: ?: unknown key; remove it",
		"\"a\\nb\": x\n":                 `acmeproxy.yaml:1: "a\nb": unknown key; known keys are a-float, a-slice, a-switch, a-text, a-uint, a-wait, an-array, an-int, an-int64, numbers, places, waits`,
		"<<: {a-text: b}\n":              "acmeproxy.yaml:1: <<: merge keys are not supported; repeat the settings",
		"A-Text: b\n":                    "acmeproxy.yaml:1: A-Text: unknown key; did you mean a-text?",
		"a-text: !!binary YQ==\n":        "acmeproxy.yaml:1: a-text: this is of another type; write text, in quotes",
		"a-text: 2026-01-01\n":           "acmeproxy.yaml:1: a-text: this is a date; write text, in quotes",
		"a-switch: !!bool perhaps\n":     "acmeproxy.yaml:1: a-switch: write true or false",
		"an-int: 99999999999999999999\n": "acmeproxy.yaml:1: an-int: this is a number; write a whole number",
		"a-wait: soon\n":                 "acmeproxy.yaml:1: a-wait: write a time with its unit, such as 30s or 12h",
	} {
		file := write(t, text)
		_, err := load(file)
		if diff := cmp.Diff([]string{want}, faults(file, err)); diff != "" {
			t.Errorf("%q: %s", text, diff)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	large := write(t, strings.Repeat("# comment\n", maxFile/10+1))
	for file, want := range map[string]string{
		filepath.Join(t.TempDir(), "none.yaml"): "no such file or directory; create the file, or set another path",
		t.TempDir():                             "is a directory; set the path of a YAML file",
		large:                                   "larger than 1 MiB",
	} {
		_, err := load(file)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), file) {
			t.Errorf("got %v, want the file and %q", err, want)
		}
	}
}

// A value of the wrong type may be a secret, so errors do not repeat it.
func TestFaultsHideValues(t *testing.T) {
	t.Setenv("ACMEPROXY_AN_INT", "12345678s3cr3t")
	_, err := load(write(t, "a-text: 12345678\na-switch: 12345678s3cr3t\na-wait: 12345678s3cr3t\n"))
	if err == nil || strings.Contains(err.Error(), "12345678") {
		t.Errorf("got %v", err)
	}
}

func TestIgnoredKeys(t *testing.T) {
	file := write(t, "certificates:\n  - names: a.example.com\n    anything: {}\na-text: x\n")
	if s, err := load(file, CertificatesKey); err != nil || s.Text != "x" {
		t.Errorf("got %v, %q", err, s.Text)
	}
	if _, err := load(file); err == nil || !strings.Contains(err.Error(), "certificates: unknown key") {
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

// The YAML file comes from outside. Each file is either read or reported, with one
// line for each fault, which names the file.
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
		root, _, err := readDocument(bytes.NewReader(data), file, maxFile)
		if err != nil || root == nil {
			checkLines(t, file, err)
			return
		}
		d := newDecoder(file, len(data), callCheck)
		d.dir = "/etc/acmeproxy"
		fs := new(pflag.FlagSet)
		bind(fs)
		var nested remoteSettings
		for key, value := range d.settings(root, fs, reflect.ValueOf(&nested).Elem(), nil) {
			if got := fmt.Sprintf("%T", value); got != "string" && got != "[]string" {
				t.Errorf("%q is a %s", key, got)
			}
		}
		checkLines(t, file, d.err())
		if d.err() != nil {
			return
		}
		for _, c := range nested.Certificates {
			if len(c.Names) == 0 || c.Out != "" && !filepath.IsAbs(c.Out) {
				t.Errorf("accepted %+v", c)
			}
		}
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
