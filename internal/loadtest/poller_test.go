package loadtest_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"
	"time"

	legoacme "github.com/go-acme/lego/v4/acme"
	"github.com/go-acme/lego/v4/acme/api"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// pollEvery is the wait of the client that BenchmarkPoller compares with.
const pollEvery = 2 * time.Millisecond

// poller is the shortest client that a CA can serve: one name, one challenge, no retry. It
// asks every two milliseconds, whatever the CA wants.
type poller struct {
	core *api.Core
	r    *responder.Responder
}

func newPoller(b *testing.B, ca *pebbletest.CA, r *responder.Responder) *poller {
	b.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		b.Fatal(err)
	}
	client := &http.Client{Transport: ca.HTTPClient().Transport}
	core, err := api.New(client, "bench", ca.DirectoryURL, "", key)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := core.Accounts.New(legoacme.Account{TermsOfServiceAgreed: true}); err != nil {
		b.Fatal(err)
	}
	return &poller{core, r}
}

func (p *poller) obtain(ctx context.Context, names cert.Names) error {
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		return err
	}
	csr, err := cert.NewCSR(key, names)
	if err != nil {
		return err
	}
	order, err := p.core.Orders.New(names)
	if err != nil {
		return err
	}
	if err := p.prove(ctx, order.Authorizations[0]); err != nil {
		return err
	}
	done, err := p.core.Orders.UpdateForCSR(order.Finalize, csr)
	if err != nil {
		return err
	}
	for done.Status == legoacme.StatusProcessing {
		time.Sleep(pollEvery)
		if done, err = p.core.Orders.Get(order.Location); err != nil {
			return err
		}
	}
	if done.Status != legoacme.StatusValid {
		return fmt.Errorf("the order is %s", done.Status)
	}
	_, _, err = p.core.Certificates.Get(done.Certificate, true)
	return err
}

// prove answers the HTTP-01 challenge of an authorization.
func (p *poller) prove(ctx context.Context, url string) error {
	authz, err := p.core.Authorizations.Get(url)
	if err != nil {
		return err
	}
	i := slices.IndexFunc(authz.Challenges, func(c legoacme.Challenge) bool { return c.Type == acme.HTTP01 })
	if i < 0 {
		return fmt.Errorf("no %s challenge", acme.HTTP01)
	}
	token := authz.Challenges[i].Token
	answer, err := p.core.GetKeyAuthorization(token)
	if err != nil {
		return err
	}
	published := p.r.Put(authz.Identifier.Value, token, answer)
	defer published.Remove()
	if _, err := p.core.Challenges.New(authz.Challenges[i].URL); err != nil {
		return err
	}
	for authz.Status == legoacme.StatusPending {
		time.Sleep(pollEvery)
		if authz, err = p.core.Authorizations.Get(url); err != nil {
			return err
		}
	}
	if authz.Status != legoacme.StatusValid {
		return fmt.Errorf("the authorization is %s", authz.Status)
	}
	return ctx.Err()
}

// BenchmarkPoller alternates between our flow directly to the CA and a client that polls
// every two milliseconds. The results are medians.
//
// Budget: ours/poller ≤ 1.2, with 7 requests.
func BenchmarkPoller(b *testing.B) {
	lab := newDirectLab(b)
	ours, peer := lab.ours(b), newPoller(b, lab.ca, lab.r).obtain
	for range 40 { // accounts, nonces, connections, the CA's pace
		timed(b, ours, freshNames(1))
		timed(b, peer, freshNames(1))
	}
	requests := func(do obtain) (time.Duration, int) {
		lab.ca.Requests().Reset()
		took := timed(b, do, freshNames(1))
		return took, lab.ca.Requests().Total()
	}
	var direct, polled []time.Duration
	var sent, polls []int
	for b.Loop() {
		took, n := requests(ours)
		direct, sent = append(direct, took), append(sent, n)
		took, n = requests(peer)
		polled, polls = append(polled, took), append(polls, n)
	}
	slices.Sort(sent)
	slices.Sort(polls)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(ms(median(direct)), "ours-ms")
	b.ReportMetric(ms(median(polled)), "poller-ms")
	b.ReportMetric(ms(median(direct))/ms(median(polled)), "ours/poller")
	b.ReportMetric(float64(sent[len(sent)/2]), "ours-requests")
	b.ReportMetric(float64(polls[len(polls)/2]), "poller-requests")
}
