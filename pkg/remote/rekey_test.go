package remote_test

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/watch"
	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
	"github.com/acmeproxy/acmeproxy/pkg/remote"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// rekey gives a host new keys.
func rekey(t testing.TB, host *remote.State) *remote.Rekeyed {
	t.Helper()
	r, err := host.Rekey(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// self asks the proxy who the caller is, with a new connection.
func self(t testing.TB, dir string) error {
	t.Helper()
	host, err := remote.Open(dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.Self(t.Context())
	return err
}

// copied is a state directory as it is now.
func copied(t testing.TB, dir string) string {
	t.Helper()
	to := filepath.Join(t.TempDir(), "state")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	return to
}

func readFile(t testing.TB, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func writeFile(t testing.TB, data []byte, elem ...string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(elem...), data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// After a rekey the old key is refused, the new one is as old as that was, what
// was sealed before still opens, and what comes is sealed to the new identity
// only (A10, A21).
func TestRekey(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	first, _ := mustFetch(t, host, "a.example.com")
	client, err := host.API()
	if err != nil {
		t.Fatal(err)
	}
	before := copied(t, host.Dir)
	was, err := p.Admin.Client(t.Context(), "web1")
	if err != nil {
		t.Fatal(err)
	}

	r := rekey(t, host)
	if r.Client != "web1" || r.Finished || !slices.Equal(r.Recipients, []string{r.Recipient}) || slices.Contains(was.Recipients, r.Recipient) {
		t.Errorf("%+v", r)
	}
	proxytest.WantStatus(t, "the old key", self(t, before), http.StatusUnauthorized)
	if _, err := client.Self(t.Context()); err != nil {
		t.Errorf("who was at work: %v", err)
	}
	now, err := p.Admin.Client(t.Context(), "web1")
	if err != nil || len(now.Credentials) != 1 || !now.Credentials[0].CreatedAt.Equal(was.Credentials[0].CreatedAt) {
		t.Errorf("credentials %+v, %v", now.Credentials, err)
	}
	page, err := p.Admin.Audit(t.Context(), admin.AuditQuery{Client: "web1", Outcome: "done"})
	if err != nil || page.Entries[0].Action != "client key" || page.Entries[0].Addr != "127.0.0.1" {
		t.Errorf("audit %+v, %v", page.Entries, err)
	}

	if err := os.RemoveAll(first.Out); err != nil {
		t.Fatal(err)
	}
	if k, stages := mustFetch(t, host, "a.example.com"); k.Serial != first.Serial || slices.Contains(stages, remote.Locked) {
		t.Errorf("what was sealed before: %s after %v", k.Serial, stages)
	}
	g, err := host.Getter(nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = g.Renew(t.Context(), wantedAt(t, host, "a.example.com"))
	proxytest.WantStatus(t, "a rekey lifts the pause", err, http.StatusTooManyRequests)
	clk.Advance(time.Hour)
	if _, err := g.Renew(t.Context(), wantedAt(t, host, "a.example.com")); err != nil {
		t.Fatal(err)
	}
	m, err := client.Certificates(t.Context())
	if err != nil || len(m) != 1 {
		t.Fatal(m, err)
	}
	bundle, _, _, err := client.Bundle(t.Context(), m[0].ID, "", 0)
	if err != nil {
		t.Fatal(err)
	}
	for file, opens := range map[string]bool{"identity.age": true, "identity-old.age": false} {
		ids, err := seal.ParseIdentities(readFile(t, host.Dir, file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := seal.Open(bundle, ids...); (err == nil) != opens {
			t.Errorf("%s: %v", file, err)
		}
	}
	rekey(t, host)
	if old, err := seal.ParseIdentities(readFile(t, host.Dir, "identity-old.age")); err != nil || len(old) != 2 {
		t.Errorf("%d old identities, %v; want both", len(old), err)
	}
}

// Wherever a rekey is killed, or its answer lost, the host still gets in, opens
// what it has, and rekey run again ends it (X7).
func TestRekeyKilled(t *testing.T) {
	t.Parallel()
	key := func(t *testing.T) []byte {
		k, err := cert.GenerateKey(cert.EC256)
		if err != nil {
			t.Fatal(err)
		}
		data, err := cert.MarshalKey(k)
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	for name, test := range map[string]struct {
		accepted bool // by the proxy, before the kill
		finished bool // by the next rekey, without another key
		wreck    func(t *testing.T, dir, before string)
	}{
		"before the key was made": {false, false, func(t *testing.T, dir, _ string) {
			if _, err := seal.LoadOrCreateIdentity(filepath.Join(dir, "identity.age.next")); err != nil {
				t.Fatal(err)
			}
		}},
		"before the proxy was asked": {false, false, func(t *testing.T, dir, _ string) {
			if _, err := seal.LoadOrCreateIdentity(filepath.Join(dir, "identity.age.next")); err != nil {
				t.Fatal(err)
			}
			writeFile(t, key(t), dir, "key.pem.next")
		}},
		"the answer is lost": {true, true, func(t *testing.T, dir, before string) {
			for _, file := range []string{"key.pem", "identity.age"} {
				writeFile(t, readFile(t, dir, file), dir, file+".next")
				writeFile(t, readFile(t, before, file), dir, file)
			}
			if err := os.Remove(filepath.Join(dir, "identity-old.age")); err != nil {
				t.Fatal(err)
			}
		}},
		"the old identity is kept": {true, true, func(t *testing.T, dir, before string) {
			for _, file := range []string{"key.pem", "identity.age"} {
				writeFile(t, readFile(t, dir, file), dir, file+".next")
				writeFile(t, readFile(t, before, file), dir, file)
			}
		}},
		"between the renames": {true, true, func(t *testing.T, dir, before string) {
			writeFile(t, readFile(t, dir, "key.pem"), dir, "key.pem.next")
			writeFile(t, readFile(t, before, "key.pem"), dir, "key.pem")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var clk proxytest.Clock
			p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
			host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
			first, _ := mustFetch(t, host, "a.example.com")
			before := copied(t, host.Dir)
			if test.accepted {
				rekey(t, host)
			}
			test.wreck(t, host.Dir, before)
			wreck := copied(t, host.Dir)

			// A rekey comes next.
			r := rekey(t, host)
			if r.Finished != test.finished {
				t.Errorf("finished %v", r.Finished)
			}
			if !slices.Equal(r.Recipients, []string{r.Recipient}) {
				t.Errorf("recipients %v, the host's is %s", r.Recipients, r.Recipient)
			}
			if err := self(t, host.Dir); err != nil {
				t.Error(err)
			}
			if err := os.RemoveAll(first.Out); err != nil {
				t.Fatal(err)
			}
			if k, _ := mustFetch(t, host, "a.example.com"); k.Serial != first.Serial {
				t.Errorf("the bundle of before does not open: serial %s", k.Serial)
			}
			if left, err := filepath.Glob(filepath.Join(host.Dir, "*.next")); err != nil || len(left) > 0 {
				t.Errorf("left: %v, %v", left, err)
			}

			// Or any other command.
			if !test.accepted {
				return // the wreck's key is no longer in force
			}
			if err := self(t, wreck); err != nil {
				t.Errorf("another command: %v", err)
			}
			if left, err := filepath.Glob(filepath.Join(wreck, "*.next")); err != nil || len(left) > 0 {
				t.Errorf("another command left %v, %v", left, err)
			}
			restored, err := remote.Open(wreck, "test")
			if err != nil {
				t.Fatal(err)
			}
			if k, _ := mustFetch(t, restored, "a.example.com"); k.Serial != first.Serial {
				t.Errorf("another command: serial %s", k.Serial)
			}
			clk.Advance(61 * 24 * time.Hour)
			p.Tick(t)
			for _, dir := range []string{host.Dir, wreck} {
				state, err := remote.Open(dir, "test")
				if err != nil {
					t.Fatal(err)
				}
				watch.Until(t, "what is sealed to the new identity is there", func() bool {
					k, _ := mustFetch(t, state, "a.example.com")
					return k.Serial != first.Serial
				})
			}
		})
	}
}

// daemon runs one of a host, until stop.
func daemon(t testing.TB, host *remote.State) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- remote.Run(ctx, remote.RunConfig{State: host, Poll: time.Second, Logger: slog.New(slog.DiscardHandler)})
	}()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A daemon continues with the new keys, and with the bundles sealed to them (A12).
func TestRekeyUnderADaemon(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	first, _ := mustFetch(t, host, "a.example.com")
	stop := daemon(t, host)
	other, err := remote.Open(host.Dir, "test")
	if err != nil {
		t.Fatal(err)
	}
	rekey(t, other)
	clk.Advance(61 * 24 * time.Hour)
	p.Tick(t)
	watch.Until(t, "the daemon has installed the renewed certificate", func() bool {
		b, err := certfile.Read(first.Out)
		return err == nil && b.Serial() != first.Serial
	})
	stop()
}

// With an SSH key only the TLS key is new, until another file is named; bundles
// of before open all the same (X8).
func TestRekeyIdentityFile(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	line, file := proxytest.SSHKey(t)
	token := p.AddClient(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	host, err := remote.Enroll(t.Context(), t.TempDir(), "test", token, remote.EnrollOptions{Identity: file})
	if err != nil {
		t.Fatal(err)
	}
	first, _ := mustFetch(t, host, "a.example.com")
	key := readFile(t, host.Dir, "key.pem")
	line = strings.TrimSuffix(line, " root@web1") // the comment is not part of the recipient
	if r := rekey(t, host); r.Recipient != line || !slices.Equal(r.Recipients, []string{line}) {
		t.Errorf("%+v", r)
	}
	if slices.Equal(key, readFile(t, host.Dir, "key.pem")) {
		t.Error("the key is the old one")
	}
	if _, err := host.Rekey(t.Context(), filepath.Join(t.TempDir(), "nowhere")); err == nil {
		t.Error("an identity that is not there was taken")
	}
	line2, file2 := proxytest.SSHKey(t)
	line2 = strings.TrimSuffix(line2, " root@web1")
	r, err := host.Rekey(t.Context(), file2)
	if err != nil || r.Recipient != line2 || !slices.Equal(r.Recipients, []string{line2}) {
		t.Errorf("%+v, %v", r, err)
	}
	if err := os.RemoveAll(first.Out); err != nil {
		t.Fatal(err)
	}
	if k, _ := mustFetch(t, host, "a.example.com"); k.Serial != first.Serial { // the state of before the rekey, as in a daemon
		t.Errorf("serial %s", k.Serial)
	}
}

// Only the holder of a key can replace it, once, by another key of its own. A client
// can replace only its own recipients (A21, X14).
func TestKeyAbuse(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	grant := proxytest.Grant(clients.ModeAgent, "*.example.com")
	web1, web2 := p.Enroll(t, "web1", grant), p.Enroll(t, "web2", grant)
	one, onePin := p.WithKey(t, web1.Dir)
	two, twoPin := p.WithKey(t, web2.Dir)
	_, recipient := proxytest.NewIdentity(t)
	bearer := p.NewCaller(t, "script", []string{recipient}, grant)
	proof := func(oldPin [32]byte, dir string) api.KeyRequest {
		t.Helper()
		key, err := cert.GenerateKey(cert.EC256)
		if dir != "" {
			key, err = cert.ParseKey(readFile(t, dir, "key.pem"))
		}
		if err != nil {
			t.Fatal(err)
		}
		var r api.KeyRequest
		if r.PublicKey, r.Proof, err = auth.ProveKey(key, oldPin); err != nil {
			t.Fatal(err)
		}
		return r
	}
	with := func(r api.KeyRequest, change func(*api.KeyRequest)) api.KeyRequest { change(&r); return r }
	good := proof(onePin, "")
	others := p.Enroll(t, "web3", grant)
	status, err := p.Admin.Client(t.Context(), "web3")
	if err != nil {
		t.Fatal(err)
	}
	for what, test := range map[string]struct {
		from *proxytest.Caller
		req  api.KeyRequest
		want int
	}{
		"a bearer client":                 {bearer, good, http.StatusForbidden},
		"a stranger":                      {p.WithToken(t, ""), good, http.StatusUnauthorized},
		"another client's proof":          {two, good, http.StatusUnprocessableEntity},
		"a proof for another key":         {one, with(good, func(r *api.KeyRequest) { r.PublicKey = proof(onePin, "").PublicKey }), http.StatusUnprocessableEntity},
		"another client's key, its proof": {one, with(good, func(r *api.KeyRequest) { r.PublicKey = proof(twoPin, web2.Dir).PublicKey }), http.StatusUnprocessableEntity},
		"a key of another client":         {one, proof(onePin, web2.Dir), http.StatusConflict},
		"another client's recipient":      {one, with(good, func(r *api.KeyRequest) { r.Retire = status.Recipients }), http.StatusUnprocessableEntity},
		"no recipient":                    {one, with(good, func(r *api.KeyRequest) { r.Recipients = []string{"age1broken"} }), http.StatusUnprocessableEntity},
		"too many":                        {one, with(good, func(r *api.KeyRequest) { r.Recipients = slices.Repeat([]string{recipient}, 65) }), http.StatusUnprocessableEntity},
		"a huge key":                      {one, with(good, func(r *api.KeyRequest) { r.PublicKey = make([]byte, 100_000) }), http.StatusUnprocessableEntity},
		"nothing":                         {one, api.KeyRequest{}, http.StatusUnprocessableEntity},
	} {
		r := test.from.Do(t, http.MethodPost, api.PathClientKey, test.req)
		if r.Status != test.want {
			t.Errorf("%s: %d %s, want %d", what, r.Status, r.Body, test.want)
		}
		r.Problem(t)
	}
	for _, host := range []*remote.State{web1, web2, others} {
		if err := self(t, host.Dir); err != nil {
			t.Errorf("%s lost its key: %v", host.Client(), err)
		}
	}
	if r := one.Do(t, http.MethodPost, api.PathClientKey, good); r.Status != http.StatusOK {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	for _, what := range []string{"again", "and again"} {
		if r := one.Do(t, http.MethodPost, api.PathClientKey, good); r.Status != http.StatusUnauthorized {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	refused := p.Refusals(t)
	if n := len(slices.DeleteFunc(refused, func(e admin.AuditEntry) bool { return e.Action != "client key" })); n != 4 {
		t.Errorf("%d refusals of keys in the audit trail, want 4: %+v", n, refused)
	}
}

// A host that has lost its identity gets an error with the remedy. While the proxy
// refuses another bundle, the daemon does not ask for it at each poll.
func TestLostIdentity(t *testing.T) {
	t.Parallel()
	var clk proxytest.Clock
	p := proxytest.Start(t, proxytest.Options{Change: clk.On()})
	host := p.Enroll(t, "web1", proxytest.Grant(clients.ModeAgent, "*.example.com"))
	first, _ := mustFetch(t, host, "a.example.com")
	for _, lost := range []string{filepath.Join(host.Dir, "identity.age"), first.Out} {
		if err := os.RemoveAll(lost); err != nil {
			t.Fatal(err)
		}
	}
	if _, _, err := fetch(t, host, "a.example.com"); err == nil || !strings.Contains(err.Error(), "run acmeproxy remote rekey to add it") {
		t.Errorf("an identity that the proxy does not know: %v", err)
	}
	rekey(t, host)
	_, _, err := fetch(t, host, "a.example.com")
	proxytest.WantStatus(t, "another bundle within the hour", err, http.StatusTooManyRequests)

	asked := func(route string) int { return strings.Count(p.Log(), "route="+api.PathCertificates+"/{id}/"+route) }
	renews, bundles := asked("renew"), asked("bundle")
	stop := daemon(t, host)
	watch.Until(t, "the daemon has polled", func() bool { return asked("bundle") >= bundles+3 })
	stop()
	if n := asked("renew") - renews; n != 1 {
		t.Errorf("the daemon asked %d times for another bundle, want once", n)
	}
	kept, err := host.Kept()
	if err != nil || len(kept) != 1 || !strings.Contains(kept[0].LastError, "the proxy can be asked for another at 2") {
		t.Errorf("%+v, %v", kept, err)
	}
	clk.Advance(time.Hour)
	if k, _ := mustFetch(t, host, "a.example.com"); k.Serial == first.Serial {
		t.Error("the old one came back")
	}
}
