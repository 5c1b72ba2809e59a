package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// The tables of docs/dependencies.md are what go.mod requires, each module in
// the table of the place where it is used.
func TestDependenciesAreListed(t *testing.T) {
	var mod struct {
		Require []struct {
			Path     string
			Indirect bool
		}
	}
	if err := json.Unmarshal(goCommand(t, "mod", "edit", "-json"), &mod); err != nil {
		t.Fatal(err)
	}
	shipped := strings.Fields(string(goCommand(t, "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", ".")))
	var program, tests []string
	for _, r := range mod.Require {
		switch {
		case r.Indirect:
		case slices.Contains(shipped, r.Path):
			program = append(program, r.Path)
		default:
			tests = append(tests, r.Path)
		}
	}
	page := read(t, "docs/dependencies.md")
	_, page, _ = strings.Cut(page, "## In the program")
	first, second, ok := strings.Cut(page, "## In tests only")
	if !ok {
		t.Fatal("docs/dependencies.md has no section \"In tests only\"")
	}
	same(t, "the program", program, modules(first))
	same(t, "tests", tests, modules(second))
}

// modules are what the first cells of a table name.
func modules(table string) (all []string) {
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) < 3 || !strings.HasPrefix(line, "| `") {
			continue
		}
		for _, m := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(cells[1], -1) {
			all = append(all, m[1])
		}
	}
	return all
}

func same(t *testing.T, where string, want, listed []string) {
	t.Helper()
	for _, m := range want {
		if !slices.Contains(listed, m) {
			t.Errorf("docs/dependencies.md does not say why %s is in %s", m, where)
		}
	}
	for _, m := range listed {
		if !slices.Contains(want, m) {
			t.Errorf("docs/dependencies.md lists %s, which go.mod does not require for %s", m, where)
		}
	}
}

func goCommand(t *testing.T, args ...string) []byte {
	t.Helper()
	c := exec.CommandContext(t.Context(), "go", args...)
	c.Dir = top
	out, err := c.Output()
	if err != nil {
		t.Fatalf("go %q: %v", args, err)
	}
	return out
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(top, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Each link of a page leads to a file that is there, and to a heading of it;
// docs/README.md leads to all pages.
func TestLinks(t *testing.T) {
	pages, err := filepath.Glob(top + "/docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Glob(top + "/*.md")
	if err != nil {
		t.Fatal(err)
	}
	records, err := filepath.Glob(top + "/docs/adr/*.md")
	if err != nil {
		t.Fatal(err)
	}
	index := read(t, "docs/README.md")
	for _, page := range slices.Concat(pages, root, records) {
		name, err := filepath.Rel(top, page)
		if err != nil {
			t.Fatal(err)
		}
		if base := filepath.Base(name); filepath.Dir(name) == "docs" && base != "README.md" && !strings.Contains(index, "("+base+")") {
			t.Errorf("docs/README.md does not list %s", base)
		}
		for _, found := range link.FindAllStringSubmatch(read(t, name), -1) {
			file, heading, _ := strings.Cut(found[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			to := name
			if file != "" {
				to = filepath.Join(filepath.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(top, to)); err != nil {
				t.Errorf("%s: %s is not there", name, found[1])
			} else if heading != "" && !slices.Contains(headings(read(t, to)), heading) {
				t.Errorf("%s: %s has no such heading", name, found[1])
			}
		}
	}
}

// headings are those of a page as they stand in links.
func headings(page string) (all []string) {
	for line := range strings.Lines(page) {
		if text, ok := strings.CutPrefix(strings.TrimLeft(line, "#"), " "); ok && strings.HasPrefix(line, "#") {
			text = regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(strings.TrimSpace(text)), "")
			all = append(all, strings.ReplaceAll(text, " ", "-"))
		}
	}
	return all
}
