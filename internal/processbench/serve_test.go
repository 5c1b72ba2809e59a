package processbench

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// host is the name of the answers.
const host = "www.example.com"

// serving is a process of acmeproxy serve with an admin socket.
type serving struct {
	*process
	addr  string // of port 80
	admin *admin.Admin
}

// serve starts acmeproxy serve on a data directory.
func serve(b *testing.B, dir string) *serving {
	b.Helper()
	s := &serving{addr: freeAddr(b), admin: admin.Dial(filepath.Join(dir, admin.SocketName))}
	s.process = start(b, coreServer, nil, program(b), "serve", "--data-dir", dir, "--http-addr", s.addr, "--https-addr", "127.0.0.1:0")
	return s
}

// answer publishes a token when the proxy listens.
func (s *serving) answer(b *testing.B) admin.Probe {
	b.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		probe, err := s.admin.AddProbe(b.Context(), admin.NewProbe{Name: host})
		if err == nil {
			return probe
		}
		if time.Now().After(deadline) {
			b.Fatalf("acmeproxy serve does not come up: %v\n%s", err, s.out.String())
		}
	}
}

// fetch returns one answer of port 80.
func fetch(ctx context.Context, addr, token string) (body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+responder.Prefix+token, http.NoBody)
	if err != nil {
		return "", err
	}
	req.Host = host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", resp.Status)
	}
	return string(data), err
}

// BenchmarkServe measures the time from the start of the program to its first answer
// on port 80, with a new and with an existing data directory.
//
// Budgets: start < 300 ms, idle memory < 40 MiB, program < 40 MB.
func BenchmarkServe(b *testing.B) {
	var first, again []time.Duration
	var memory []float64
	run := func(dir string) time.Duration {
		begun := time.Now()
		s := serve(b, dir)
		probe := s.answer(b)
		if body, err := fetch(b.Context(), s.addr, probe.Token); err != nil || body != probe.Body {
			b.Fatalf("port 80 answers %q, %v", body, err)
		}
		took := time.Since(begun)
		memory = append(memory, s.resident(b))
		s.stop(b)
		return took
	}
	for b.Loop() {
		dir := b.TempDir()
		first = append(first, run(dir))
		again = append(again, run(dir))
	}
	file, err := os.Stat(program(b))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(first)), "first-start-ms")
	b.ReportMetric(ms(median(again)), "start-ms")
	b.ReportMetric(median(memory), "idle-MiB")
	b.ReportMetric(float64(file.Size())/1e6, "program-MB")
}

func median[T time.Duration | float64](of []T) T {
	slices.Sort(of)
	return of[len(of)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
