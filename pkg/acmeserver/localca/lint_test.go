package localca_test

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// lint runs zlint's checks of RFC 5280 and of the Baseline Requirements on the files.
func lint(t *testing.T, files map[string][]byte) {
	t.Helper()
	program, err := filepath.Abs("../../../tools/zlint/bin/zlint")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err != nil {
		if pebbletest.ToolsRequired() {
			t.Fatalf("%v; make zlint builds it", err)
		}
		t.Skip("SKIP: zlint is not built; run make zlint to run this test")
	}
	dir := t.TempDir()
	names := slices.Sorted(maps.Keys(files))
	args := []string{"-includeSources", "RFC5280,CABF_BR"}
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, files[name], 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, path)
	}
	out, err := exec.CommandContext(t.Context(), program, args...).Output()
	if err != nil {
		t.Fatal(err)
	}
	results := json.NewDecoder(bytes.NewReader(out)) // one object for each file
	for _, name := range names {
		var lints map[string]finding
		if err := results.Decode(&lints); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		check(t, name, lints)
	}
	if results.More() {
		t.Error("zlint prints more results than there are files")
	}
}

// finding is the result of one lint.
type finding struct {
	Result  string `json:"result"`
	Details string `json:"details"`
}

func check(t *testing.T, name string, lints map[string]finding) {
	t.Helper()
	passed := 0
	for lint, f := range lints {
		switch f.Result {
		case "pass":
			passed++
		case "error", "fatal", "warn":
			// RFC 5280 recommends it, and the Baseline Requirements advise against it.
			if lint != "w_ext_subject_key_identifier_missing_sub_cert" {
				t.Errorf("%s: %s: %s %s", name, lint, f.Result, f.Details)
			}
		}
	}
	if passed < 5 {
		t.Errorf("%s: only %d lints apply", name, passed)
	}
}

// The certificates and CRLs follow RFC 5280 and the Baseline Requirements (C21).
func TestLint(t *testing.T) {
	t.Parallel()
	ca := open(t, localca.Config{URL: base, CommonName: "Example", Country: "DE"})
	files := map[string][]byte{}
	for generation := range 2 {
		if generation > 0 {
			if err := ca.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for name, csr := range map[string]*cert.CSR{
			"ec256":    newCSR(t, cert.EC256, "web1.example.com", "web2.example.com"),
			"ec384":    newCSR(t, cert.EC384, "web1.example.com"),
			"rsa":      newCSR(t, cert.RSA2048, "web1.example.com"),
			"wildcard": newCSR(t, cert.EC256, "*.example.com", "example.com"),
			"ip":       newCSR(t, cert.EC256, "9.9.9.9", "2620:fe::fe"),
			"long":     newCSR(t, cert.EC256, strings.Repeat("a", 63)+"."+strings.Repeat("b", 63)+".example.com"),
		} {
			for dates, order := range map[string]acmeserver.Order{
				"default": {},
				"dated":   {NotBefore: time.Now().Add(time.Hour), NotAfter: time.Now().Add(24 * time.Hour)},
			} {
				order.ID = name
				all := parse(t, issue(t, ca, order, csr).Chain)
				files[fmt.Sprintf("%s-%s-%d.pem", name, dates, generation+1)] = pemOf("CERTIFICATE", all[0].Raw)
				for i, c := range all[1:] {
					files[fmt.Sprintf("intermediate-%d-%d.pem", generation+1, i)] = pemOf("CERTIFICATE", c.Raw)
				}
				if err := ca.Revoke(t.Context(), acmeserver.RevokeRequest{Leaf: all[0], Reason: len(files) % 2 * 4}); err != nil {
					t.Fatal(err)
				}
			}
		}
		files[fmt.Sprintf("root-%d.pem", generation+1)] = ca.Root()
		files[fmt.Sprintf("crl-%d.pem", generation+1)] = pemOf("X509 CRL", ca.CRL())
	}
	files["crl-root.pem"] = pemOf("X509 CRL", fetch(t, ca, base+"/root-1.crl").Body.Bytes())
	lint(t, files)
}
