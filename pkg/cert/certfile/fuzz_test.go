package certfile

import (
	"path/filepath"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// The owner of a folder may write any record. What is read of it is fit to be shown
// and compared.
func FuzzOwner(f *testing.F) {
	for _, seed := range []string{`{"program":"remote","dir":"/var/lib/acmeproxy-remote","name":"a"}`, `{"dir":"x"}`, "null", "", "["} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		o, ok := parseOwner(data)
		if ok != (o != Owner{}) || ok && (!filepath.IsAbs(o.Dir) || !cert.IsStoredName(o.Name)) {
			t.Errorf("%+v, %v", o, ok)
		}
	})
}
