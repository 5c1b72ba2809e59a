package processbench

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"log"
	"math/big"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"syscall"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/localca"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/sqlstore"
	"github.com/acmeproxy/acmeproxy/pkg/store/sqldb"
)

// acmeBase is the path of the ACME server's URLs.
const acmeBase = "/acme"

// ownAccounts gives each account its own owner.
type ownAccounts struct{ acmeserver.AnyAccount }

func (ownAccounts) Admit(_ context.Context, a acmeserver.NewAccount) (string, error) {
	return a.Thumbprint, nil
}

// serveACME serves an ACME server with the local CA and SQLite at $ACMEPROXY_BENCH_ADDR.
// Its data is in $ACMEPROXY_BENCH_DIR. The issuer, storage, and HTTP server are those of a
// program that embeds the library.
func serveACME() error {
	addr, dir := os.Getenv(addrVariable), os.Getenv(dirVariable)
	ca, err := localca.Open(localca.Config{Dir: filepath.Join(dir, "ca"), URL: "http://" + addr + "/ca"})
	if err != nil {
		return err
	}
	db, err := openACME(context.Background(), dir)
	if err != nil {
		return err
	}
	server, err := acmeserver.New(acmeserver.Config{
		URL: "https://" + addr + acmeBase, Storage: sqlstore.New(db), Issuer: ca, Policy: acmeserver.Trusting{}, Accounts: ownAccounts{},
	})
	if err != nil {
		return err
	}
	go server.Run(context.Background())
	identity, err := selfSigned()
	if err != nil {
		return err
	}
	if err := profile(os.Getenv(profileVariable)); err != nil {
		return err
	}
	s := &http.Server{
		Addr: addr, Handler: server, ReadTimeout: time.Minute, WriteTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{identity}, MinVersion: tls.VersionTLS12},
	}
	return s.ListenAndServeTLS("", "")
}

// profile writes a CPU profile to a new file until SIGTERM.
func profile(path string) error {
	if path == "" {
		return nil
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() {
		<-stop
		pprof.StopCPUProfile()
		os.Exit(1)
	}()
	return pprof.StartCPUProfile(f)
}

func openACME(ctx context.Context, dir string) (*sqldb.DB, error) {
	return sqldb.Open(ctx, sqldb.Config{Path: filepath.Join(dir, "acme.db"), Parts: []sqldb.Part{sqlstore.Part()}})
}

func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, err
}

// measuredACME is an ACME server in a process of its own, with its client in another one
// and the results of their turns.
type measuredACME struct {
	server   *process
	client   *process
	tasks    *json.Encoder
	turns    *json.Decoder
	rate     []float64 // certificates a second
	cost     []float64 // milliseconds of a core of the server for a certificate
	newOrder []time.Duration
	finalize []time.Duration
}

// startACME starts a server on a data directory, and its client. Both may use all cores.
func startACME(b *testing.B, dir string) *measuredACME {
	b.Helper()
	addr := freeAddr(b)
	m := &measuredACME{}
	m.server = start(b, coreServer+","+coreOthers, []string{roleVariable + "=" + roleACME, addrVariable + "=" + addr, dirVariable + "=" + dir}, self(b))
	awaitPort(b, addr, m.server)
	m.client = &process{cmd: pinned(b, coreServer+","+coreOthers, []string{roleVariable + "=" + roleACMELoad, addrVariable + "=" + addr}, self(b))}
	m.client.cmd.Stderr = os.Stderr
	in, err1 := m.client.cmd.StdinPipe()
	out, err2 := m.client.cmd.StdoutPipe()
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	if err := m.client.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { m.client.stop(b) })
	m.tasks, m.turns = json.NewEncoder(in), json.NewDecoder(out)
	return m
}

// turn orders certificates and notes what they cost.
func (m *measuredACME) turn(b *testing.B, t acmeTask) {
	b.Helper()
	before := m.server.cpu(b)
	result := m.order(b, t)
	spent := m.server.cpu(b) - before
	m.rate = append(m.rate, float64(t.Certificates)/result.Took.Seconds())
	m.cost = append(m.cost, ms(spent)/float64(t.Certificates))
	m.newOrder = append(m.newOrder, result.NewOrder)
	m.finalize = append(m.finalize, result.Finalize)
}

func (m *measuredACME) order(b *testing.B, t acmeTask) (result acmeTurn) {
	b.Helper()
	if err := m.tasks.Encode(t); err != nil {
		b.Fatal(err)
	}
	if err := m.turns.Decode(&result); err != nil {
		b.Fatalf("%v\n%s", err, m.server.out.String())
	}
	return result
}

// BenchmarkACMEServer measures the library with the local CA and SQLite. 32 clients
// order, finalize and download certificates of one name over persistent TLS connections.
//
// Budgets: ≥ 300 certificates a second, ≤ 4 ms of CPU for each. The rate includes the
// client's work on the same two cores, and depends on other users of them.
func BenchmarkACMEServer(b *testing.B) {
	m := startACME(b, b.TempDir())
	task := acmeTask{Conns: 32, Certificates: 640}
	m.order(b, task) // accounts, connections, compiled statements
	for b.Loop() {
		m.turn(b, task)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(m.rate), "certs/s")
	b.ReportMetric(median(m.cost), "cpu-ms")
	b.ReportMetric(m.server.resident(b), "MiB")
	m.server.stop(b) // before the context kills it, so that it writes its profile
}
