package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// docs/configuration.md says what the code does.
func TestConfigurationIsTrue(t *testing.T) {
	have, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(have, configuration()) {
		t.Error("docs/configuration.md is not what the code says: run make docs")
	}
}

// Who builds, where and when leaves no trace.
func TestSameEverywhere(t *testing.T) {
	first := configuration()
	t.Setenv("HOME", "/home/ops")
	t.Setenv("XDG_STATE_HOME", "/home/ops/state")
	if !bytes.Equal(first, configuration()) {
		t.Error("the reference depends on the environment")
	}
	for name, page := range tree(t, func(dir string) error { return manPages(dir, time.Unix(1e9, 0)) }) {
		noTrace(t, name, page)
		if !strings.Contains(page, "Sep 2001") {
			t.Errorf("%s does not have the date of SOURCE_DATE_EPOCH", name)
		}
	}
	for name, script := range tree(t, completions) {
		noTrace(t, name, script)
	}
}

func noTrace(t *testing.T, name, text string) {
	t.Helper()
	here, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for _, trace := range []string{"/home/ops", filepath.Dir(filepath.Dir(here)), os.TempDir() + "/", "Auto generated"} {
		if strings.Contains(text, trace) {
			t.Errorf("%s mentions %s", name, trace)
		}
	}
}

// Every command has a page, and every page a command.
func TestManPages(t *testing.T) {
	pages := tree(t, func(dir string) error { return manPages(dir, time.Unix(1e9, 0)) })
	everyCommand(root(), func(c *cobra.Command) {
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		if _, ok := pages[name]; !ok {
			t.Errorf("%s has no page", c.CommandPath())
		}
		delete(pages, name)
	})
	for name := range pages {
		t.Errorf("%s is about no command", name)
	}
}

func TestCompletions(t *testing.T) {
	scripts := tree(t, completions)
	for _, name := range []string{"acmeproxy.bash", "_acmeproxy", "acmeproxy.fish"} {
		if !strings.Contains(scripts[name], "acmeproxy") {
			t.Errorf("no completion in %s", name)
		}
	}
}

func TestUsage(t *testing.T) {
	for _, args := range [][]string{nil, {"man"}, {"poem", t.TempDir()}} {
		if err := run(args); err == nil {
			t.Errorf("%q: no error", args)
		}
	}
	t.Setenv("SOURCE_DATE_EPOCH", "")
	if err := run([]string{"man", t.TempDir()}); err == nil || !strings.Contains(err.Error(), "make man") {
		t.Errorf("no date: %v", err)
	}
}

// tree is what write puts into a folder, by file name.
func tree(t *testing.T, write func(dir string) error) map[string]string {
	t.Helper()
	dir := t.TempDir()
	if err := write(dir); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for _, e := range entries {
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		files[e.Name()] = string(text)
	}
	return files
}
