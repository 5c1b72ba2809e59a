package peers_test

import (
	"fmt"
	"net/http"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/pebbletest"
	"github.com/acmeproxy/acmeproxy/internal/pgtest"
	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/config"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/store"
)

// instances holds two instances on one database. The CA connects only to the second.
type instances struct {
	ca       *pebbletest.CA
	url      string
	one, two *proxytest.Proxy
	change   func(*proxy.Config)
}

// startOne starts the instance to which the CA does not connect.
func startOne(t testing.TB, url string, o pebbletest.Options, changes ...func(*proxy.Config)) *instances {
	t.Helper()
	in := &instances{ca: pebbletest.Start(t, o), url: url, change: func(c *proxy.Config) {
		for _, change := range changes {
			change(c)
		}
	}}
	in.one = proxytest.Start(t, proxytest.Options{CA: in.ca, Store: url, Change: func(c *proxy.Config) {
		in.change(c)
		if c.HTTPAddr != config.None {
			c.HTTPAddr = "127.0.0.1:0"
		}
	}})
	return in
}

// startTwo starts the instance to which the CA connects, and waits until both know
// each other.
func (in *instances) startTwo(t testing.TB) {
	t.Helper()
	in.two = proxytest.Start(t, proxytest.Options{CA: in.ca, Store: in.url, Change: func(c *proxy.Config) {
		in.change(c)
		if c.HTTPAddr == config.None {
			c.HTTPSAddr = fmt.Sprintf("127.0.0.1:%d", in.ca.TLSPort)
		}
		proxytest.ShareIdentity(t, in.one.DataDir, c.DataDir)
	}})
	for _, p := range []*proxytest.Proxy{in.one, in.two} {
		watch.Until(t, "they know each other", func() bool {
			s, err := p.Admin.Status(t.Context())
			return err == nil && len(s.Instances.Others) == 1 && s.Instances.Problem == ""
		})
	}
}

func startTwo(t testing.TB, url string, o pebbletest.Options, changes ...func(*proxy.Config)) *instances {
	t.Helper()
	in := startOne(t, url, o, changes...)
	in.startTwo(t)
	return in
}

// Both instances wake, and one of them processes each due row once. The CA connects
// only to the second, and each serves the other's requests (D13, X7, X18).
func TestTwoInstances(t *testing.T) {
	t.Parallel()
	url := pgtest.Start(t).Database(t)
	var ca pebbletest.Fault
	in := startTwo(t, url, pebbletest.Options{Wrap: ca.Wrap})
	s, err := store.Open(t.Context(), store.Config{URL: url})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()

	const certificates = 40 // more than one instance processes at once for one client
	id, recipient := proxytest.NewIdentity(t)
	c := in.one.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	_, release := ca.Hold(t, pebbletest.NewOrder)
	var rows []api.Certificate
	for i := range certificates {
		rows = append(rows, c.Register(t, fmt.Sprintf("n%d.example.com", i)))
	}
	client, err := s.ClientByName(t.Context(), "script")
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	watch.Until(t, "both instances work", func() bool { return len(workers(t, s, client.ID)) == 2 })
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("the second was not woken; it polled after %v", took)
	}
	release()
	c.URL = in.two.URL
	for _, row := range rows {
		proxytest.OpenBundle(t, c.Bundle(t, row.ID, "").Body, proxytest.Names(t, row.Names...), id)
	}
	if n := in.ca.Requests().Count(pebbletest.NewOrder); n != certificates {
		t.Errorf("%d orders for %d certificates", n, certificates)
	}
	in.answerNothing(t)

	// A row from any source is processed (D14).
	row, _, err := s.EnsureManaged(t.Context(), managed.Certificate{
		ClientID: client.ID, Mode: clients.ModeAgent, Names: []string{"row.example.com"}, KeyType: "ec256",
	})
	if err != nil {
		t.Fatal(err)
	}
	in.one.Renewals.Wake()
	proxytest.OpenBundle(t, c.Bundle(t, row.ID, "").Body, proxytest.Names(t, "row.example.com"), id)

	// A token of one instance is valid at the other, which has the same pinned key. One
	// instance alone continues to work.
	token := in.one.AddClient(t, "web1", proxytest.Grant(clients.ModeAgent, "*.web1.example.com"))
	in.one.Stop(t)
	token.URL = in.two.URL
	web1, err := remote.Enroll(t.Context(), t.TempDir(), "test", token, remote.EnrollOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := proxytest.Get(t, web1, clients.ModeAgent, "www.web1.example.com"); err != nil {
		t.Error(err)
	}
}

// answerNothing waits until no instance answers any challenge.
func (in *instances) answerNothing(t testing.TB) {
	t.Helper()
	for _, p := range []*proxytest.Proxy{in.one, in.two} {
		watch.Until(t, "the answers are gone", func() bool { return p.Answers() == 0 })
	}
}

// In gateway mode, the CA may also connect to the other instance. The database server
// sees neither names nor tokens nor key authorizations. They are in no table and in no
// logged statement (X18, A14).
func TestTwoInstancesGateway(t *testing.T) {
	t.Parallel()
	server := pgtest.Start(t)
	url := server.Database(t)
	server.LogStatements(t, url)
	seen := proxytest.NewWitness()
	in := startTwo(t, url, pebbletest.Options{Wrap: seen.Wrap})
	seen.Watch(t, in.two)
	id, recipient := proxytest.NewIdentity(t)
	c := in.one.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeGateway, "**.corp.example.com"))
	want := proxytest.Names(t, "payroll.corp.example.com", "wages.hr.corp.example.com")
	events := c.Gateway(t, api.CertificateRequest{Names: want})
	if strings.Contains(in.one.Log(), "does not acknowledge") {
		t.Error("the second did not acknowledge in time")
	}
	b := proxytest.OpenBundle(t, events[len(events)-1].Bundle, want, id)
	in.answerNothing(t)

	secrets := seen.Traces(t)
	secrets.Add("name", "payroll")
	secrets.Add("name", "wages")
	secrets.Certificate(t, "certificate", b)
	files := in.one.Everything(t)
	for name, data := range in.two.Everything(t) {
		files["two/"+name] = data
	}
	files["statements"] = []byte(server.Log())
	files["dump"] = pgtest.Readable(server.Dump(t, url))
	for _, found := range secrets.In(files) {
		t.Error(found)
	}
	control := proxytest.Traces{"message": []byte("pg_notify("), "grant": []byte("**.corp.example.com")}
	for _, want := range []string{"message in statements", "grant in statements", "grant in dump"} {
		if found := strings.Join(control.In(files), ", "); !strings.Contains(found, want) {
			t.Errorf("the search does not find %s, but %s", want, found)
		}
	}
}

// Answers to TLS-ALPN-01 are shared, too (X18, X4).
func TestTwoInstancesTLSALPN(t *testing.T) {
	t.Parallel()
	in := startTwo(t, pgtest.Start(t).Database(t), pebbletest.Options{}, func(c *proxy.Config) {
		c.Challenge, c.HTTPAddr = "tls-alpn-01", config.None
	})
	for mode, list := range map[clients.Mode][]string{
		clients.ModeGateway: {"a.example.com", "b.example.com", "127.0.0.1"},
		clients.ModeAgent:   {"c.example.com", "d.example.com"},
	} {
		host := in.one.Enroll(t, string(mode), proxytest.Grant(mode, "*.example.com", "127.0.0.1"))
		if _, err := proxytest.Get(t, host, mode, list...); err != nil {
			t.Fatal(err)
		}
	}
	in.answerNothing(t)
}

// An instance that starts during another one's order serves its answers. A long poll
// at the new instance wakes at once when the other has the certificate (X18, D13).
func TestInstanceInTheMiddle(t *testing.T) {
	t.Parallel()
	var ca pebbletest.Fault
	in := startOne(t, pgtest.Start(t).Database(t), pebbletest.Options{Wrap: ca.Wrap})
	id, recipient := proxytest.NewIdentity(t)
	c := in.one.NewCaller(t, "script", []string{recipient}, proxytest.Grant(clients.ModeAgent, "*.example.com"))
	arrived, release := ca.Hold(t, pebbletest.Challenge)
	m := c.Register(t, "a.example.com")
	watch.Await(t, "the CA is about to validate", arrived)
	in.startTwo(t)
	watch.Until(t, "the second answers", func() bool { return in.two.Answers() == 1 })
	c.URL = in.two.URL
	type pulled struct {
		proxytest.Reply
		at  time.Time
		err error
	}
	polls := make(chan pulled, 1)
	go func() {
		r, err := c.Try(t, http.MethodGet, api.PathCertificates+"/"+m.ID+"/bundle?wait=60s", nil)
		polls <- pulled{r, time.Now(), err}
	}()
	finishing, finish := ca.Hold(t, pebbletest.Finalize)
	release()
	watch.Await(t, "the CA has validated", finishing)
	released := time.Now()
	finish()
	p := <-polls
	if p.err != nil || p.Status != http.StatusOK {
		t.Fatalf("%d %s, %v", p.Status, p.Body, p.err)
	}
	proxytest.OpenBundle(t, p.Body, proxytest.Names(t, "a.example.com"), id)
	if took := p.at.Sub(released); took > 10*time.Second {
		t.Errorf("the poll was not woken; it ended after %v", took)
	}
	in.answerNothing(t)
	if n := in.ca.Requests().Count(pebbletest.NewOrder); n != 1 {
		t.Errorf("%d orders", n)
	}
}

// All instances answer the token of acmeproxy check.
func TestTwoInstancesProbe(t *testing.T) {
	t.Parallel()
	in := startTwo(t, pgtest.Start(t).Database(t), pebbletest.Options{})
	probe, err := in.one.Admin.AddProbe(t.Context(), admin.NewProbe{Name: "a.example.com"})
	if err != nil {
		t.Fatal(err)
	}
	if status, body := proxytest.AnswerAt(t, in.two.HTTPAddr(), "a.example.com", probe.Token); status != http.StatusOK || body != probe.Body {
		t.Errorf("%d %s", status, body)
	}
	if err := in.one.Admin.RemoveProbe(t.Context(), probe.Token); err != nil {
		t.Fatal(err)
	}
	in.answerNothing(t)
}

// All instances answer a client's challenge, whichever the client asks. It may withdraw and
// replace it at any of them, and the end of its grant counts at all. Its answer outlives a
// stop of the instance that it asked (X2, X18).
func TestTwoInstancesOffload(t *testing.T) {
	t.Parallel()
	in := startTwo(t, pgtest.Start(t).Database(t), pebbletest.Options{})
	one := in.one.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeChallenge, "*.example.com"))
	two := *one
	two.URL = in.two.URL
	other := in.one.NewCaller(t, "web2", nil, proxytest.Grant(clients.ModeChallenge, "*.example.com"))
	const name, thumbprint = "www.example.com", "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	token := func(n int) string { return fmt.Sprintf("token-%016d", n) }
	present := func(c *proxytest.Caller, n, status int) {
		t.Helper()
		body := api.PresentRequest{Name: name, KeyAuthorization: token(n) + "." + thumbprint}
		if r := c.Do(t, http.MethodPut, api.PathHTTP01+"/"+token(n), body); r.Status != status {
			t.Fatalf("present %d: %d %s", n, r.Status, r.Body)
		}
	}
	withdraw := func(c *proxytest.Caller, n, status int) {
		t.Helper()
		if r := c.Do(t, http.MethodDelete, api.PathHTTP01+"/"+token(n)+"?name="+name, nil); r.Status != status {
			t.Fatalf("withdraw %d: %d %s", n, r.Status, r.Body)
		}
	}
	answers := func(p *proxytest.Proxy, n int) bool {
		status, body := proxytest.AnswerAt(t, p.HTTPAddr(), name, token(n))
		return status == http.StatusOK && body == token(n)+"."+thumbprint
	}

	present(one, 1, http.StatusOK)
	present(&two, 2, http.StatusOK)
	for _, p := range []*proxytest.Proxy{in.one, in.two} {
		if !answers(p, 1) || !answers(p, 2) {
			t.Fatal("an instance does not answer when present has returned")
		}
	}
	present(other, 2, http.StatusConflict) // it has it from the other instance
	withdraw(&two, 1, http.StatusNoContent)
	if answers(in.two, 1) {
		t.Error("the instance that was asked still answers")
	}
	watch.Until(t, "the other instance stops, too", func() bool { return !answers(in.one, 1) })
	present(one, 2, http.StatusOK) // replaces the one of the second instance
	withdraw(one, 2, http.StatusNoContent)
	in.answerNothing(t)

	present(one, 3, http.StatusOK)
	present(&two, 4, http.StatusOK)
	if _, err := in.two.Admin.SetDisabled(t.Context(), "web1", true); err != nil {
		t.Fatal(err)
	}
	if answers(in.two, 3) || answers(in.two, 4) {
		t.Error("the instance where the client was disabled still answers")
	}
	in.answerNothing(t)
	if _, err := in.two.Admin.SetDisabled(t.Context(), "web1", false); err != nil {
		t.Fatal(err)
	}

	present(one, 5, http.StatusOK)
	in.one.Stop(t)
	if !answers(in.two, 5) {
		t.Error("it ended with the instance")
	}
	withdraw(&two, 5, http.StatusNoContent)
	if answers(in.two, 5) {
		t.Error("it was not withdrawn")
	}
}

// workers returns the instances that hold a lease on a client's rows.
func workers(t *testing.T, s *store.Store, clientID string) map[string]bool {
	t.Helper()
	rows, err := s.ListManaged(t.Context(), clientID, clients.ModeAgent, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]bool{}
	for _, row := range rows {
		if row.LeaseOwner != "" {
			found[path.Dir(row.LeaseOwner)] = true // each claim appends a part
		}
	}
	return found
}
