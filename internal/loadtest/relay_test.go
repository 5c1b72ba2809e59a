//go:build unix

package loadtest_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

// throughRelay returns the flow of a stock ACME client, that of golang.org/x/crypto, at
// the ACME door of a proxy. The clients take turns, because one client may not make so many
// requests.
func throughRelay(b *testing.B) obtain {
	b.Helper()
	p := proxytest.Start(b, proxytest.Options{Change: func(c *proxy.Config) {
		proxytest.WithACME(c)
		c.DefaultDailyQuota = "1000000"
	}})
	var accounts [8]*proxytest.ACMEAccount
	for i := range accounts {
		credential := p.ACMECredential(b, fmt.Sprintf("bench%d", i), proxytest.Grant(clients.ModeACME, "*.example.com"))
		accounts[i] = p.NewACMEAccount(b, credential)
	}
	var turn atomic.Int64
	return func(_ context.Context, names cert.Names) error {
		_, err := accounts[turn.Add(1)%int64(len(accounts))].Obtain(b, names...)
		return err
	}
}

// cpuTime returns the CPU time of this process.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measured is a flow with the results of its turns.
type measured struct {
	do   obtain
	rate []float64 // certificates a second
	cost []float64 // milliseconds of CPU for a certificate, with those of the CA
}

func (m *measured) turn(b *testing.B, certificates, inFlight int) {
	b.Helper()
	var g errgroup.Group
	g.SetLimit(inFlight)
	used, start := cpuTime(b), time.Now()
	for range certificates {
		g.Go(func() error { return m.do(b.Context(), freshNames(1)) })
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	m.rate = append(m.rate, float64(certificates)/time.Since(start).Seconds())
	m.cost = append(m.cost, ms(cpuTime(b)-used)/float64(certificates))
}

// compareRelay alternates between our flow directly to the CA and a stock client's through
// the relay. The CA, the proxy and the client are in one process, so the CPU of the relay
// and of its client is the difference of the two.
func compareRelay(b *testing.B, inFlight int) {
	b.Helper()
	const certificates = 16
	ours, _ := directFlows(b)
	direct, relay := &measured{do: ours}, &measured{do: throughRelay(b)}
	warm := []*measured{{do: direct.do}, {do: relay.do}}
	for _, m := range warm { // accounts, nonces, connections, the CA's pace
		m.turn(b, 2*certificates, inFlight)
	}
	for b.Loop() {
		direct.turn(b, certificates, inFlight)
		relay.turn(b, certificates, inFlight)
	}
	middle := func(list []float64) float64 {
		slices.Sort(list)
		return list[len(list)/2]
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(middle(direct.rate), "ours-certs/s")
	b.ReportMetric(middle(relay.rate), "relay-certs/s")
	b.ReportMetric(middle(relay.rate)/middle(direct.rate), "relay/ours")
	b.ReportMetric(middle(relay.cost)-middle(direct.cost), "relay-cpu-ms")
}

// Budgets: 60 certificates a second when our flow has 110, so relay/ours ≥ 0.55; ≤ 10 ms
// of CPU.
func BenchmarkRelayOneAfterTheOther(b *testing.B) { compareRelay(b, 1) }

// Budget: 150 certificates a second when our flow has 306, so relay/ours ≥ 0.49.
func BenchmarkRelayEightInFlight(b *testing.B) { compareRelay(b, 8) }
