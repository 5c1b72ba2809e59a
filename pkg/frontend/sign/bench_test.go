package sign_test

import (
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// BenchmarkCached measures answers from the cache, which are 3,000 a second at least.
func BenchmarkCached(b *testing.B) {
	ca := startPebble(b, pebbletest.Options{})
	l := newLab(b, ca, "[storage f]\ntype=file\ndirectory="+b.TempDir()+"\n[auth web]\nhmac_type=sha256\nhmac_key=secret\ndomain=*\n")
	csr := newCSR(b, newKey(b, cert.RSA2048), "", "www.example.org")
	key := signed("secret", csr)
	l.post(b, csr, key)
	http.DefaultTransport.(*http.Transport).MaxIdleConnsPerHost = 64
	b.SetParallelism(4)
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			req, err := http.NewRequestWithContext(b.Context(), http.MethodPost, l.url+"/sign", bytes.NewReader(csr))
			if err != nil {
				b.Fatal(err)
			}
			req.Header.Set("Authentication", key[len("Authentication: "):])
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				b.Fatal(err)
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				b.Fatal(resp.Status)
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "answers/s")
}

// BenchmarkNew measures requests with new CSRs one after the other, which are 60 a second
// at least.
func BenchmarkNew(b *testing.B) {
	ca := startPebble(b, pebbletest.Options{})
	l := newLab(b, ca, "[storage f]\ntype=file\ndirectory="+b.TempDir()+"\n[auth web]\nall=yes\ndomain=*\n")
	key := newKey(b, cert.EC256)
	for b.Loop() {
		if a := l.post(b, newCSR(b, key, "", "www.example.org")); a.StatusCode != http.StatusOK {
			b.Fatal(a.Status)
		}
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "certificates/s")
}
