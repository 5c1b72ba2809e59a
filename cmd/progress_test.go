package cmd

import (
	"bytes"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// Without a terminal, each event is a line of its own, without control sequences.
func TestProgressLines(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, "www.example.com", 6)
	for _, e := range []acme.Event{
		{Stage: acme.Queued},
		{Stage: acme.Ordering},
		{Stage: acme.Challenge, Identifier: "www.example.com"},
		{Stage: acme.Validating},
		{Stage: acme.Finalizing},
		{Stage: acme.Issuing},
		{Stage: acme.Issued},
		{Stage: remote.Registered},
		{Stage: remote.Waiting},
		{Stage: "of a newer proxy"},
		{Stage: "of a hostile\x1b[2J\nproxy", Identifier: "\u202emoc.elpmaxe"}, // A5
	} {
		p.event(e)
	}
	p.done()
	want := `www.example.com: waiting for a free slot at the proxy
www.example.com: ordering at the CA
www.example.com: asked the CA to validate www.example.com
www.example.com: the CA is validating
www.example.com: validated, sending the CSR
www.example.com: the CA is signing
www.example.com: issued
www.example.com: registered for renewal at the proxy
www.example.com: waiting for the proxy to obtain it
www.example.com: of a newer proxy
www.example.com: of a hostile\u001b[2J\nproxy \u202emoc.elpmaxe
`
	if got := out.String(); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
}
