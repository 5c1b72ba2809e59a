package challenge

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"
)

// X19: two solvers with one folder, before and after a reload, do not remove each
// other's files. The spelling of the folder does not matter.
func TestSolversShareWebroot(t *testing.T) {
	root := t.TempDir()
	link := filepath.Join(t.TempDir(), "www")
	if err := os.Symlink(root, link); err != nil {
		t.Fatal(err)
	}
	var places Places
	var answers []Answer
	c := Challenge{Name: "a.example", Token: "A-z_09", KeyAuthorization: "x"}
	for _, folder := range []string{root, link, root + "/"} {
		s, err := FromWebroot(folder, &places)
		if err != nil {
			t.Fatal(err)
		}
		a, err := s.Present(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	path := filepath.Join(root, ".well-known", "acme-challenge", c.Token)
	for i, a := range answers {
		if _, err := os.Stat(path); err != nil {
			t.Errorf("%d: another order needs it still: %v", i, err)
		}
		a.Remove()
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file is still there")
	}
}

// X19: after a reload with another hook, an answer is removed once, by the last order
// that needs it.
func TestHooksSharePlace(t *testing.T) {
	dir := t.TempDir()
	var places Places
	var answers []Answer
	c := Challenge{Name: "a.example", Token: "token", KeyAuthorization: "x"}
	for _, name := range []string{"first", "second"} {
		s := FromHook(HookConfig{
			Command: `echo "$ACMEPROXY_EVENT$CERTBOT_AUTH_OUTPUT" >> ` + filepath.Join(dir, name),
			Environ: os.Environ(), Logger: slog.New(slog.DiscardHandler), Places: &places,
		})
		a, err := s.Present(t.Context(), c)
		if err != nil {
			t.Fatal(err)
		}
		answers = append(answers, a)
	}
	for _, a := range answers {
		a.Remove()
	}
	for name, want := range map[string]int{"first": 1, "second": 2} {
		data, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		if n := countLines(data); n != want {
			t.Errorf("the %s hook ran %d times, want %d", name, n, want)
		}
	}
}

func countLines(data []byte) (n int) {
	for _, b := range data {
		if b == '\n' {
			n++
		}
	}
	return n
}
