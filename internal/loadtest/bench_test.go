package loadtest_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-acme/lego/v4/certcrypto"
	"github.com/go-acme/lego/v4/certificate"
	"github.com/go-acme/lego/v4/lego"
	"github.com/go-acme/lego/v4/registration"
	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/issuer"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// obtain obtains one certificate.
type obtain func(ctx context.Context, names cert.Names) error

var serial atomic.Int64

func freshNames(n int) cert.Names {
	var list []string
	for range n {
		list = append(list, fmt.Sprintf("n%d.example.com", serial.Add(1)))
	}
	names, err := cert.ParseNames(list...)
	if err != nil {
		panic(err)
	}
	return names
}

// benchAccounts stores an account in memory.
type benchAccounts struct {
	mu  sync.Mutex
	key crypto.Signer
	url string
}

func (a *benchAccounts) Account(context.Context, string) (crypto.Signer, string, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var err error
	if a.key == nil {
		a.key, err = cert.GenerateKey(cert.EC256)
	}
	return a.key, a.url, "", err
}

func (a *benchAccounts) SetURL(_ context.Context, _, url, _ string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.url = url
	return nil
}

// directLab is a CA with our responder on port 80, for flows without a proxy.
type directLab struct {
	ca *pebbletest.CA
	r  *responder.Responder
}

func newDirectLab(b *testing.B) *directLab {
	b.Helper()
	lab := &directLab{pebbletest.Start(b, pebbletest.Options{}), responder.New()}
	s := &http.Server{Addr: fmt.Sprintf("127.0.0.1:%d", lab.ca.HTTPPort), Handler: lab.r, ReadHeaderTimeout: 5 * time.Second}
	go func() {
		if err := s.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			b.Errorf("port 80: %v", err)
		}
	}()
	b.Cleanup(func() { s.Close() })
	return lab
}

// ours returns our flow without a proxy.
func (lab *directLab) ours(b *testing.B) obtain {
	b.Helper()
	solver := challenge.FromMemory(acme.HTTP01, challenge.Memory{HTTP01: lab.r})
	is, err := issuer.NewPool(issuer.PoolConfig{CAs: []issuer.CAConfig{{
		DirectoryURL: lab.ca.DirectoryURL, Accounts: &benchAccounts{}, Solvers: map[string]challenge.Solver{acme.HTTP01: solver}, AcceptTOS: true,
		Transport: lab.ca.HTTPClient().Transport, UserAgent: "bench",
	}}})
	if err != nil {
		b.Fatal(err)
	}
	return func(ctx context.Context, names cert.Names) error {
		_, err := is.Issue(ctx, cert.Request{Names: names, KeyType: cert.EC256}, nil)
		return err
	}
}

// directFlows returns our flow without a proxy and lego's flow, with the same CA.
func directFlows(b *testing.B) (ours, legos obtain) {
	b.Helper()
	lab := newDirectLab(b)
	return lab.ours(b), legoFlow(b, lab.ca, lab.r)
}

// legoUser implements lego's interface of an account.
type legoUser struct {
	key crypto.PrivateKey
	reg *registration.Resource
}

func (u *legoUser) GetEmail() string                        { return "" }
func (u *legoUser) GetRegistration() *registration.Resource { return u.reg }
func (u *legoUser) GetPrivateKey() crypto.PrivateKey        { return u.key }

// legoProvider answers lego's challenges with our responder.
type legoProvider struct {
	r       *responder.Responder
	answers sync.Map
}

func (p *legoProvider) Present(domain, token, keyAuth string) error {
	p.answers.Store(token, p.r.Put(domain, token, keyAuth))
	return nil
}

func (p *legoProvider) CleanUp(_, token, _ string) error {
	if a, ok := p.answers.LoadAndDelete(token); ok {
		a.(*responder.Answer).Remove()
	}
	return nil
}

func legoFlow(b *testing.B, ca *pebbletest.CA, r *responder.Responder) obtain {
	b.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		b.Fatal(err)
	}
	user := &legoUser{key: key}
	cfg := lego.NewConfig(user)
	cfg.CADirURL = ca.DirectoryURL
	cfg.HTTPClient = ca.HTTPClient()
	cfg.Certificate.KeyType = certcrypto.EC256
	client, err := lego.NewClient(cfg)
	if err != nil {
		b.Fatal(err)
	}
	if err := client.Challenge.SetHTTP01Provider(&legoProvider{r: r}); err != nil {
		b.Fatal(err)
	}
	if user.reg, err = client.Registration.Register(registration.RegisterOptions{TermsOfServiceAgreed: true}); err != nil {
		b.Fatal(err)
	}
	return func(_ context.Context, names cert.Names) error {
		_, err := client.Certificate.Obtain(certificate.ObtainRequest{Domains: names, Bundle: true})
		return err
	}
}

// throughGateway returns the same flow through a proxy: a key and a CSR of the
// client, TLS, authentication, policy, the stream. The clients take turns, because
// one client may not have so many certificates.
func throughGateway(b *testing.B) obtain {
	b.Helper()
	p := proxytest.Start(b, proxytest.Options{Change: func(c *proxy.Config) { c.DefaultDailyQuota = "1000000" }})
	var remotes [32]*remote.Client
	for i := range remotes {
		state := p.Enroll(b, fmt.Sprintf("bench%d", i), proxytest.Grant(clients.ModeGateway, "*.example.com"))
		var err error
		if remotes[i], err = state.API(); err != nil {
			b.Fatal(err)
		}
	}
	var turn atomic.Int64
	return func(ctx context.Context, names cert.Names) error {
		client := remotes[turn.Add(1)%int64(len(remotes))]
		_, err := client.Issue(ctx, cert.Request{Names: names, KeyType: cert.EC256}, nil)
		return err
	}
}

func timed(b *testing.B, do obtain, names cert.Names) time.Duration {
	b.Helper()
	start := time.Now()
	if err := do(b.Context(), names); err != nil {
		b.Fatal(err)
	}
	return time.Since(start)
}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func ms(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// compare alternates between our flow without a proxy and through the gateway, so
// that a noisy machine slows both. lego's flow takes seconds, so it has only a few
// turns. The results are medians.
func compare(b *testing.B, names, legoTurns int) {
	b.Helper()
	ours, legos := directFlows(b)
	gateway := throughGateway(b)
	for range 40 { // accounts, nonces, connections, the CA's pace
		timed(b, ours, freshNames(names))
		timed(b, gateway, freshNames(names))
	}
	var direct, relayed, peer []time.Duration
	for i := 0; b.Loop(); i++ {
		direct = append(direct, timed(b, ours, freshNames(names)))
		relayed = append(relayed, timed(b, gateway, freshNames(names)))
		if i < legoTurns {
			peer = append(peer, timed(b, legos, freshNames(names)))
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(direct)), "ours-ms")
	b.ReportMetric(ms(median(relayed)), "gateway-ms")
	b.ReportMetric(ms(median(peer)), "lego-ms")
	b.ReportMetric(ms(median(relayed))/ms(median(direct)), "gateway/ours")
	b.ReportMetric(ms(median(peer))/ms(median(direct)), "lego/ours")
}

// Budgets: gateway/ours ≤ 1.10, lego/ours ≥ 20.
func BenchmarkOneCertificate(b *testing.B) { compare(b, 1, 3) }

func BenchmarkTenNames(b *testing.B) { compare(b, 10, 1) }

// BenchmarkThroughput measures 32 issuances in flight, alternately 96 without and 96
// through a proxy.
//
// Budget: gateway/ours ≥ 0.8.
func BenchmarkThroughput(b *testing.B) {
	ours, _ := directFlows(b)
	gateway := throughGateway(b)
	const turn = 96
	rate := func(do obtain) float64 {
		runtime.GC()
		var g errgroup.Group
		g.SetLimit(32)
		start := time.Now()
		for range turn {
			g.Go(func() error { return do(b.Context(), freshNames(1)) })
		}
		if err := g.Wait(); err != nil {
			b.Fatal(err)
		}
		return turn / time.Since(start).Seconds()
	}
	rate(ours)
	rate(gateway)
	var direct, relayed []float64
	for b.Loop() {
		direct = append(direct, rate(ours))
		relayed = append(relayed, rate(gateway))
	}
	slices.Sort(direct)
	slices.Sort(relayed)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(direct[len(direct)/2], "ours-certs/s")
	b.ReportMetric(relayed[len(relayed)/2], "gateway-certs/s")
	b.ReportMetric(relayed[len(relayed)/2]/direct[len(direct)/2], "gateway/ours")
}
