package audit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// A refusal costs the client nothing, so its entry is small, however many and long
// the names are. The entry of an allowed request has all names (X14).
func TestRefusalIsSmall(t *testing.T) {
	var names []string
	for i := range cert.MaxNames {
		names = append(names, fmt.Sprintf("n%02d.%s.example.com", i, strings.Repeat(strings.Repeat("x", 60)+".", 3)))
	}
	size := func(e trail.Entry) int { return len(strings.Join(e.Names, "\n")) + len(e.Detail) }
	e := trail.Entry{Outcome: trail.Refused, Names: names, Detail: strings.Repeat("d", 10_000)}
	small := Trim(e)
	t.Logf("a refusal of %d names takes %d bytes, was %d", len(names), size(small), size(trail.Entry{Names: names})+maxDetail)
	if n := size(small); n > 2048 {
		t.Errorf("a refusal takes %d bytes", n)
	}
	if len(small.Names) != 10 || !strings.Contains(small.Detail, "the first 10 of 100 names") || len(e.Names[0]) < 150 {
		t.Errorf("%d names, %q; the caller's name has %d bytes", len(small.Names), small.Detail, len(e.Names[0]))
	}
	e.Outcome = trail.Allowed
	if whole := Trim(e); len(whole.Names) != cert.MaxNames || whole.Names[0] != names[0] {
		t.Error("names of what was allowed are missing")
	}
}
