package loadtest_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
)

// scenario is a proxy with 31 hostile clients and one regular one, and a CA that needs
// some time for each order.
type scenario struct {
	*proxytest.Proxy
	hostile []*proxytest.Caller
	remote  *remote.Client    // the 32nd, in gateway mode
	caller  *proxytest.Caller // the 32nd, in agent mode
	issued  int

	attack context.Context // ends the requests of the hostile clients
	end    context.CancelFunc
}

const hostileClients = 31

// burst returns the number of concurrent requests of each hostile client, which is
// more than its places. It is lower with the race detector, which makes a thousand
// connections slow.
func burst() int {
	if proxytest.RaceDetector {
		return 6
	}
	return 32
}

// newScenario starts a scenario. The CA needs the time hostile for an order of a hostile
// client, and usual for others.
func newScenario(t testing.TB, usual, hostile time.Duration) *scenario {
	t.Helper()
	w := &scenario{}
	w.attack, w.end = context.WithCancel(context.Background())
	p := proxytest.Start(t, proxytest.Options{Pebble: pebbletest.Options{Wrap: slowFinalize(w.attack, usual, hostile)}})
	w.Proxy = p
	t.Cleanup(w.end)
	_, recipient := proxytest.NewIdentity(t)
	for i := range hostileClients {
		name := fmt.Sprintf("hostile%d", i)
		patterns := "*." + name + ".example.com"
		w.hostile = append(w.hostile, p.NewCaller(t, name, []string{recipient},
			proxytest.Grant(clients.ModeGateway, patterns), proxytest.Grant(clients.ModeAgent, patterns)))
	}
	for _, c := range w.hostile { // one connection each
		c.Do(t, http.MethodGet, api.PathClient, nil)
	}
	grants := []clients.Grant{proxytest.Grant(clients.ModeGateway, "*.good.example.com"), proxytest.Grant(clients.ModeAgent, "*.good.example.com")}
	var err error
	if w.remote, err = p.Enroll(t, "good", grants[0]).API(); err != nil {
		t.Fatal(err)
	}
	w.caller = p.NewCaller(t, "agent", []string{recipient}, grants[1])
	return w
}

// slowFinalize makes the CA wait before it answers a CSR.
func slowFinalize(attack context.Context, usual, hostile time.Duration) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if pebbletest.Kind(r) == pebbletest.Finalize {
				body, err := io.ReadAll(r.Body)
				if err != nil {
					return
				}
				r.Body = io.NopCloser(bytes.NewReader(body))
				wait := usual
				if strings.Contains(finalizedName(body), "hostile") {
					wait = hostile
				}
				select {
				case <-time.After(wait):
				case <-attack.Done():
				case <-r.Context().Done():
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	}
}

// finalizedName returns a name of the CSR in a finalize request.
func finalizedName(jws []byte) string {
	var outer struct{ Payload string }
	var inner struct{ CSR string }
	if json.Unmarshal(jws, &outer) != nil {
		return ""
	}
	payload, err := base64.RawURLEncoding.DecodeString(outer.Payload)
	if err != nil || json.Unmarshal(payload, &inner) != nil {
		return ""
	}
	der, err := base64.RawURLEncoding.DecodeString(inner.CSR)
	if err != nil {
		return ""
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil || len(csr.DNSNames) == 0 {
		return ""
	}
	return csr.DNSNames[0]
}

// timeout32nd is the timeout of the 32nd client.
const timeout32nd = 20 * time.Second

// gateway obtains one certificate for the 32nd client and returns the time it took.
func (w *scenario) gateway(t testing.TB) time.Duration {
	t.Helper()
	w.issued++
	ctx, cancel := context.WithTimeout(t.Context(), timeout32nd)
	defer cancel()
	want := proxytest.Names(t, fmt.Sprintf("g%d.good.example.com", w.issued))
	begin := time.Now()
	if _, err := w.remote.Issue(ctx, cert.Request{Names: want, KeyType: cert.EC256}, nil); err != nil {
		t.Logf("the 32nd client got no certificate in gateway mode: %v", err)
		return timeout32nd
	}
	return time.Since(begin)
}

// agent does the same in agent mode.
func (w *scenario) agent(t testing.TB) time.Duration {
	t.Helper()
	w.issued++
	begin := time.Now()
	m := w.caller.Register(t, fmt.Sprintf("a%d.good.example.com", w.issued))
	r := w.caller.Do(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait="+timeout32nd.String(), nil)
	if r.Status != http.StatusOK {
		t.Logf("the 32nd client got no certificate in agent mode: %d %.200s", r.Status, r.Body)
		return timeout32nd
	}
	return time.Since(begin)
}

// attack is an attack of the hostile clients that lasts until scenario.attack ends.
// begin returns when it has started.
type attack struct {
	name  string
	begin func(t testing.TB, w *scenario)
}

// attacks returns the attacks. In agent mode, each client registers agentNames names.
// 12 are more than all places for work, and 64 take a minute to register.
func attacks(agentNames int) []attack {
	return []attack{
		{fmt.Sprintf("%d slow gateway requests each", burst()), func(t testing.TB, w *scenario) {
			w.floodGateway(t, "g", "")
		}},
		{fmt.Sprintf("%d slow agent names each", agentNames), func(t testing.TB, w *scenario) {
			w.each(func(i int, c *proxytest.Caller) {
				for n := range agentNames {
					if r, err := c.Try(t, http.MethodPost, api.PathCertificates, api.CertificateRequest{
						Mode: clients.ModeAgent, Names: []string{fmt.Sprintf("a%d.hostile%d.example.com", n, i)},
					}); err != nil || r.Status != http.StatusAccepted {
						t.Errorf("register: %d %v", r.Status, err)
					}
				}
			})
		}},
		{fmt.Sprintf("%d rsa8192 keys each", burst()), func(t testing.TB, w *scenario) {
			w.floodGateway(t, "k", "rsa8192")
		}},
		{fmt.Sprintf("%d slow uploads each", burst()), func(t testing.TB, w *scenario) {
			w.each(func(_ int, c *proxytest.Caller) {
				for range burst() {
					body, end := io.Pipe() // never gets data
					context.AfterFunc(w.attack, func() { end.Close() })
					send(w.attack, t, c, body, nil)
				}
			})
		}},
	}
}

func (w *scenario) each(do func(i int, c *proxytest.Caller)) {
	var all sync.WaitGroup
	for i, c := range w.hostile {
		all.Go(func() { do(i, c) })
	}
	all.Wait()
}

// floodGateway makes each hostile client send gateway requests, and returns when all
// are sent.
func (w *scenario) floodGateway(t testing.TB, label, keyType string) {
	w.each(func(i int, c *proxytest.Caller) {
		var begun sync.WaitGroup
		for n := range burst() {
			req := api.CertificateRequest{Mode: clients.ModeGateway, Names: []string{fmt.Sprintf("%s%d.hostile%d.example.com", label, n, i)}, KeyType: keyType}
			body, err := json.Marshal(req)
			if err != nil {
				t.Error(err)
			}
			begun.Add(1)
			send(w.attack, t, c, bytes.NewReader(body), begun.Done)
		}
		begun.Wait()
	})
}

// send sends a request in the background and reads only the answer's header. It calls
// sent when the request is written.
func send(ctx context.Context, t testing.TB, c *proxytest.Caller, body io.Reader, sent func()) {
	if sent != nil {
		sent = sync.OnceFunc(sent)
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { sent() }})
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.URL+api.PathCertificates, body)
	if err != nil {
		t.Error(err)
		return
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Authorization", "Bearer "+c.Token)
	go func() {
		resp, err := c.HTTP.Do(req)
		if sent != nil {
			sent()
		}
		if err == nil {
			<-ctx.Done()
			resp.Body.Close()
		}
	}()
}

// measure returns the median of n issuances in each mode.
func (w *scenario) measure(t testing.TB, n int) map[clients.Mode]time.Duration {
	t.Helper()
	took := map[clients.Mode]time.Duration{}
	for mode, issue := range map[clients.Mode]func(testing.TB) time.Duration{clients.ModeGateway: w.gateway, clients.ModeAgent: w.agent} {
		var all []time.Duration
		for range n {
			all = append(all, issue(t))
			if all[len(all)-1] >= timeout32nd {
				break
			}
		}
		took[mode] = median(all)
	}
	return took
}

// With 31 hostile clients, whose orders take a hundred times as long, the 32nd gets
// its certificate within three times the time that it needs alone (X42).
// BenchmarkShares reports the figures.
func TestNoClientStarvesAnother(t *testing.T) {
	for _, a := range attacks(12) {
		t.Run(a.name, func(t *testing.T) {
			wantShares(t, a, 400*time.Millisecond, 40*time.Second, 3)
		})
	}
}

func wantShares(t testing.TB, a attack, usual, hostile time.Duration, n int) (alone, with map[clients.Mode]time.Duration) {
	t.Helper()
	w := newScenario(t, usual, hostile)
	w.measure(t, 2) // creates the account and learns the CA's pace
	alone = w.measure(t, n)
	a.begin(t, w)
	// A busy machine may disturb one round, but not three in a row.
	for round := 1; ; round++ {
		with = w.measure(t, n)
		worst := 0.0
		for mode, took := range with {
			ratio := float64(took) / float64(alone[mode])
			t.Logf("%s, %s: alone %v, with 31 hostile clients %v: %.2f", a.name, mode, alone[mode].Round(time.Millisecond), took.Round(time.Millisecond), ratio)
			worst = max(worst, ratio)
		}
		if worst <= 3 {
			break
		}
		if round == 3 {
			t.Errorf("%s: %.1f times as long as alone, want 3 at most", a.name, worst)
			break
		}
	}
	w.end()
	return alone, with
}

// BenchmarkShares reports the figures with a CA that needs two seconds for each
// order.
func BenchmarkShares(b *testing.B) {
	for _, a := range attacks(64) {
		b.Run(strings.ReplaceAll(a.name, " ", "-"), func(b *testing.B) {
			for b.Loop() {
				alone, with := wantShares(b, a, 2*time.Second, 2*time.Second, 10)
				for mode := range with {
					b.ReportMetric(with[mode].Seconds(), string(mode)+"-s")
					b.ReportMetric(float64(with[mode])/float64(alone[mode]), string(mode)+"/alone")
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
