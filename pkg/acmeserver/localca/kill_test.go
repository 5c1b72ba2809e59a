package localca_test

import (
	"bufio"
	"context"
	"crypto/x509"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// dirVariable makes TestKillChild use a CA until it is killed.
const dirVariable = "LOCALCA_TEST_DIR"

// TestKillChild is the child of TestKill.
func TestKillChild(t *testing.T) {
	dir := os.Getenv(dirVariable)
	if dir == "" {
		return // it runs in a process of its own only
	}
	ca, err := localca.Open(localca.Config{Dir: dir, URL: base})
	if err != nil {
		t.Fatal(err)
	}
	csr := newCSR(t, cert.EC256, "a.example.com")
	for i := 0; ; i++ {
		if i%3 == 0 {
			if err := ca.Rotate(context.Background()); err != nil {
				t.Fatal(err)
			}
		}
		leaf := parse(t, issue(t, ca, acmeserver.Order{ID: fmt.Sprint(i)}, csr).Chain)[0]
		if err := ca.Revoke(context.Background(), acmeserver.RevokeRequest{Leaf: leaf, Reason: 0}); err != nil {
			t.Fatal(err)
		}
		fmt.Printf("revoked %s %s\n", leaf.Issuer.CommonName, leaf.SerialNumber)
	}
}

// A CA that is killed at any moment opens again, with all keys and revocations that it
// confirmed.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	confirmed := map[string]string{} // issuer by serial number
	for round := range 5 {
		child := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestKillChild$")
		child.Env = append(os.Environ(), dirVariable+"="+dir)
		out, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for seen := 0; lines.Scan(); seen++ {
			var issuer [4]string
			var serial string
			if _, err := fmt.Sscanf(lines.Text(), "revoked %s %s %s %s %s", &issuer[0], &issuer[1], &issuer[2], &issuer[3], &serial); err == nil {
				confirmed[serial] = issuer[3]
			}
			if seen == round*3 {
				if err := child.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = child.Wait() // it was killed
	}
	ca := open(t, localca.Config{Dir: dir, URL: base})
	lists := map[string]*x509.RevocationList{}
	for serial, number := range confirmed {
		if lists[number] == nil {
			list, err := x509.ParseRevocationList(fetch(t, ca, base+"/issuing-"+number+".crl").Body.Bytes())
			if err != nil {
				t.Fatal(err)
			}
			lists[number] = list
		}
		found := false
		for _, e := range lists[number].RevokedCertificateEntries {
			found = found || e.SerialNumber.String() == serial
		}
		if !found {
			t.Errorf("the revocation of %s by issuing-%s is lost", serial, number)
		}
	}
	if len(confirmed) < 5 {
		t.Errorf("only %d revocations were confirmed", len(confirmed))
	}
}
