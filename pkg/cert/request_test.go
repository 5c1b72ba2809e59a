package cert_test

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

func TestParseRequest(t *testing.T) {
	csr := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: makeCSR(t, x509.CertificateRequest{DNSNames: []string{"b.example", "a.example"}})}))
	for name, c := range map[string]struct {
		names        []string
		csr, keyType string
		want         string       // names, or
		field, err   string       // what is wrong
		kt           cert.KeyType // of the result
	}{
		"names":                {[]string{"B.example", "a.example"}, "", "", "a.example b.example", "", "", cert.EC256},
		"names and key type":   {[]string{"a.example"}, "", "RSA2048", "a.example", "", "", cert.RSA2048},
		"csr":                  {nil, csr, "", "a.example b.example", "", "", cert.EC256},
		"csr and same names":   {[]string{"a.example", "B.example."}, csr, "EC256", "a.example b.example", "", "", cert.EC256},
		"nothing":              {nil, "", "", "", "names", "missing", ""},
		"bad name":             {[]string{"a_b.example"}, "", "", "", "names", "a_b.example", ""},
		"bad name with a csr":  {[]string{"a_b.example"}, csr, "", "", "names", "a_b.example", ""},
		"bad key type":         {[]string{"a.example"}, "", "p521", "", "key_type", "p521", ""},
		"bad csr":              {nil, "hello", "", "", "csr", "PKCS#10", ""},
		"other names":          {[]string{"a.example"}, csr, "", "", "names", "the csr is for a.example b.example", ""},
		"other key type":       {nil, csr, "rsa2048", "", "key_type", "the csr's key is ec256", ""},
		"bad key type and csr": {nil, csr, "p521", "", "key_type", "unknown key type", ""},
	} {
		req, err := cert.ParseRequest(c.names, c.csr, c.keyType)
		if c.field != "" {
			var wrong *cert.FieldError
			if !errors.As(err, &wrong) || wrong.Field != c.field || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%s: %v; want the field %s and %q", name, err, c.field, c.err)
			}
			continue
		}
		if err != nil || req.Names.String() != c.want || req.KeyType != c.kt || (req.CSR != nil) != (c.csr != "") {
			t.Errorf("%s: %+v, %v; want %s and %s", name, req, err, c.want, c.kt)
		}
	}
}
