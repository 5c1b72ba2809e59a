package issuer_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
)

// Wrong names, tokens and URLs end the order before they reach a hook.
func TestCAChoosesNames(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	identifier := func(typ, value string) func(map[string]any) {
		return func(d map[string]any) { d["identifier"] = map[string]any{"type": typ, "value": value} }
	}
	challenge := func(field, value string) func(map[string]any) {
		return func(d map[string]any) {
			for _, c := range d["challenges"].([]any) {
				c.(map[string]any)[field] = value
			}
		}
	}
	for name, change := range map[string]func(map[string]any){
		"path":      identifier("dns", "../$(x)\n"),
		"other":     identifier("dns", "evil.example"),
		"type":      identifier("ip", "ordered.example.com"),
		"empty":     identifier("dns", ""),
		"wildcard":  func(d map[string]any) { d["wildcard"] = true },
		"token":     challenge("token", "../../etc/passwd"),
		"newline":   challenge("token", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\nX=1"),
		"long":      challenge("token", strings.Repeat("a", 300)),
		"plain":     challenge("url", "http://127.0.0.1/chalZ/1"),
		"user":      challenge("url", "https://a:b@127.0.0.1/chalZ/1"),
		"no-url":    challenge("url", ""),
		"long-url":  challenge("url", "https://127.0.0.1/"+strings.Repeat("a", 3000)),
		"file":      challenge("url", "file:///etc/passwd"),
		"no-status": func(d map[string]any) { d["status"] = "$(x)" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ts.set(name, times(1000, pebbletest.Authorization, fields(change)))
			is := e.another(t, func(cfg *testConfig) {
				cfg.UserAgent, cfg.HTTPHook = name, "echo called >> "+t.TempDir()+"/hook; exit 1"
			})
			_, err := is.Issue(t.Context(), ec(names(t, "ordered.example.com")), nil)
			if err == nil || strings.Contains(err.Error(), "http-01-hook") || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v; want an error before the hook", err)
			}
		})
	}
	t.Run("authorizations", func(t *testing.T) {
		t.Parallel()
		ts.set("many", times(1000, pebbletest.NewOrder, fields(func(d map[string]any) {
			first := d["authorizations"].([]any)[0]
			for range 1000 {
				d["authorizations"] = append(d["authorizations"].([]any), first)
			}
		})))
		is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "many" })
		if _, err := is.Issue(t.Context(), ec(names(t, "many.example.com")), nil); err == nil || !strings.Contains(err.Error(), "authorizations for 1 names") {
			t.Errorf("%v", err)
		}
	})
}

// A name in the CA's spelling and a wildcard without its field match the order.
func TestOtherSpelling(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{Wrap: ts.wrap}, nil)
	ts.set("upper", times(100, pebbletest.Authorization, fields(func(d map[string]any) {
		d["identifier"] = map[string]any{"type": "dns", "value": "SPELLING.example.com"}
	})))
	is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "upper" })
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := is.Issue(ctx, ec(names(t, "spelling.example.com")), nil); err != nil {
		t.Error(err)
	}
}

// X30: an authorization that was valid before the order may be for a parent domain
// (RFC 9444).
func TestValidParent(t *testing.T) {
	t.Parallel()
	var ts overrides
	e := start(t, pebbletest.Options{AuthzReuse: 100, Wrap: ts.wrap}, nil)
	is := e.another(t, func(cfg *testConfig) { cfg.UserAgent = "parent" })
	if _, err := is.Issue(t.Context(), ec(names(t, "www.parent.example.com")), nil); err != nil {
		t.Fatal(err)
	}
	replaced := false
	ts.set("parent", times(100, pebbletest.Authorization, fields(func(d map[string]any) {
		if d["status"] == "valid" && d["identifier"].(map[string]any)["value"] == "www.parent.example.com" {
			d["identifier"], replaced = map[string]any{"type": "dns", "value": "parent.example.com"}, true
		}
	})))
	if _, err := is.Issue(t.Context(), ec(names(t, "www.parent.example.com", "new.example.com")), nil); err != nil || !replaced {
		t.Errorf("%v; an authorization was replaced: %v", err, replaced)
	}
}
