package enroll_test

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/audit"
	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/policy"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
	"github.com/acmeproxy/acmeproxy/pkg/store"
	"github.com/acmeproxy/acmeproxy/pkg/trail"
)

// rig holds a registrar on a real store, with a clock that tests advance.
type rig struct {
	*enroll.Registrar
	st     *store.Store
	path   string // of the database
	now    time.Time
	revoke func(managed.Certificate) error
}

const proxyURL = "https://proxy.example.com"

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	now := func() time.Time { return r.now }
	r.path = filepath.Join(t.TempDir(), "acmeproxy.db")
	st, err := store.Open(t.Context(), store.Config{Path: r.path, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { st.Close() })
	r.st = st
	r.Registrar = enroll.New(enroll.Config{
		Store: st, Audit: audit.New(audit.Config{Store: st, Logger: slog.New(slog.DiscardHandler), Now: now}),
		URL: func() string { return proxyURL }, Pin: [32]byte{1}, Now: now,
		ACME: func() string { return proxyURL + "/acme" }, BindingSecret: bindingSecret,
		Revoke: func(_ context.Context, _ clients.Client, m managed.Certificate, _ cert.Reason) error {
			return r.revoke(m)
		},
	})
	return r
}

// entries returns a summary of the audit trail, oldest first.
func (r *rig) entries(t *testing.T) []string {
	t.Helper()
	all, err := r.st.Audit(t.Context(), trail.Query{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	out := make([]string, 0, len(all))
	for _, e := range slices.Backward(all) {
		out = append(out, strings.Join([]string{e.ClientName, e.Addr, e.Action, e.Outcome, e.Detail}, "|"))
	}
	return out
}

func (r *rig) wantEntries(t *testing.T, want ...string) {
	t.Helper()
	if got := r.entries(t); !slices.Equal(got, want) {
		t.Errorf("audit trail:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func (r *rig) client(t *testing.T, name string) clients.Client {
	t.Helper()
	c, err := r.st.ClientByName(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// add adds a client and returns its enrolment token.
func (r *rig) add(t *testing.T, c clients.Client) auth.EnrollToken {
	t.Helper()
	issued, err := r.Add(t.Context(), c, enroll.SecretSpec{})
	if err != nil {
		t.Fatal(err)
	}
	return parseToken(t, issued)
}

func parseToken(t *testing.T, issued enroll.Issued) auth.EnrollToken {
	t.Helper()
	token, err := auth.ParseEnrollToken(issued.Secret)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func grants(names ...string) []clients.Grant {
	return []clients.Grant{{Names: names, Modes: []clients.Mode{clients.ModeAgent}}}
}

func recipient(t *testing.T) string {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return id.Recipient().String()
}

var inside = netip.MustParseAddr("10.0.0.7")

func request(token auth.EnrollToken, key byte, recipients ...string) enroll.EnrollRequest {
	return enroll.EnrollRequest{Secret: token.Secret[:], Key: [32]byte{key}, Recipients: recipients, Addr: inside}
}

func wantFaults(t *testing.T, err error, want ...string) {
	t.Helper()
	var invalid *enroll.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != len(want) {
		t.Fatalf("%v, want %d faults", err, len(want))
	}
	for i, fault := range invalid.Faults {
		if !strings.HasPrefix(fault.Error(), want[i]) {
			t.Errorf("fault %d is %q, want %q…", i, fault, want[i])
		}
	}
}

// A client gets one token, which contains the proxy's URL and expires.
func TestAdd(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	want := clients.Client{Name: "web1", Grants: grants("web1.example.com"), Recipients: []string{recipient(t)}}
	issued, err := r.Add(t.Context(), want, enroll.SecretSpec{})
	if err != nil {
		t.Fatal(err)
	}
	token := parseToken(t, issued)
	if token.URL != proxyURL || token.ProxyPin != [32]byte{1} || !issued.ExpiresAt.Equal(r.now.Add(enroll.DefaultTokenLife)) {
		t.Errorf("token %+v until %v", token.URL, issued.ExpiresAt)
	}
	if c := r.client(t, "web1"); !slices.Equal(c.Recipients, want.Recipients) || len(c.Grants) != 1 {
		t.Errorf("stored: %+v", c)
	}
	r.wantEntries(t, "web1|admin|client add|done|")

	_, err = r.Add(t.Context(), want, enroll.SecretSpec{Bearer: true})
	var exists *enroll.ExistsError
	if !errors.As(err, &exists) || exists.Name != "web1" || !errors.Is(err, managed.ErrConflict) {
		t.Errorf("the same name: %v", err)
	}
}

// All faults of a request are reported together, and change nothing.
func TestFaults(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	bad := clients.Client{Name: "-", Recipients: []string{"age1broken"}}
	_, err := r.Add(t.Context(), bad, enroll.SecretSpec{Life: time.Second})
	wantFaults(t, err, "name: ", "recipient 1: ", "grants: ", "token_life: ")
	_, err = r.Add(t.Context(), clients.Client{Name: "web1", Grants: grants("*.com")}, enroll.SecretSpec{URL: "http://x"})
	wantFaults(t, err, "names: ", "url: ")
	_, err = r.Apply(t.Context(), clients.Apply{Clients: []clients.Client{bad, {Name: "ok", Grants: grants("a.example.com")}, {Name: "none"}}})
	wantFaults(t, err, `client "-": name: `, `client "none": grants: `)

	token := r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	_, err = r.Token(t.Context(), "web1", enroll.TokenRequest{SecretSpec: enroll.SecretSpec{Life: 1}, Recipients: []string{"bad"}})
	wantFaults(t, err, "recipient 1: ", "recipients: ", "token_life: ")
	if !errors.Is(err, enroll.ErrRecipientsKept) {
		t.Errorf("%v", err)
	}
	if _, err := r.Token(t.Context(), "nobody", enroll.TokenRequest{}); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("unknown client: %v", err)
	}
	r.wantEntries(t, "web1|admin|client add|done|")
	if _, err := r.Enroll(t.Context(), request(token, 1)); err != nil {
		t.Errorf("the token of before: %v", err)
	}

	unnamed := enroll.New(enroll.Config{Store: r.st, Audit: audit.New(audit.Config{Store: r.st, Logger: slog.New(slog.DiscardHandler)})})
	_, err = unnamed.Token(t.Context(), "web1", enroll.TokenRequest{})
	wantFaults(t, err, "url: ")
	if !errors.Is(err, enroll.ErrNoURL) {
		t.Errorf("%v", err)
	}
	if _, err := unnamed.Token(t.Context(), "web1", enroll.TokenRequest{SecretSpec: enroll.SecretSpec{Bearer: true}}); err != nil {
		t.Errorf("a bearer token needs no URL: %v", err)
	}
}

// One more token leaves the others as they are; a replacement removes all.
func TestToken(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	old := recipient(t)
	first := r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com"), Recipients: []string{old}})
	issued, err := r.Token(t.Context(), "web1", enroll.TokenRequest{SecretSpec: enroll.SecretSpec{URL: "https://other.example.com", Life: time.Hour}})
	if err != nil {
		t.Fatal(err)
	}
	second := parseToken(t, issued)
	if second.URL != "https://other.example.com" || !issued.ExpiresAt.Equal(r.now.Add(time.Hour)) {
		t.Errorf("%s until %v", second.URL, issued.ExpiresAt)
	}
	if _, err := r.Enroll(t.Context(), request(first, 1)); err != nil {
		t.Error(err)
	}
	fresh := recipient(t)
	issued, err = r.Token(t.Context(), "web1", enroll.TokenRequest{SecretSpec: enroll.SecretSpec{Bearer: true}, Replace: true, Recipients: []string{fresh}})
	if err != nil || issued.Kind != clients.Bearer || !issued.ExpiresAt.IsZero() || !slices.Equal(issued.Client.Recipients, []string{fresh}) {
		t.Errorf("%+v, %v", issued.Client, err)
	}
	if _, err := r.Enroll(t.Context(), request(second, 2)); !errors.Is(err, enroll.ErrToken) {
		t.Errorf("a token of before: %v", err)
	}
	r.wantEntries(t,
		"web1|admin|client add|done|",
		"web1|admin|client token|done|enroll",
		"web1|10.0.0.7|enroll|done|",
		"web1|admin|client token|done|bearer, replacing all credentials and recipients",
		"|10.0.0.7|enroll|refused|unknown, expired or used token")
}

// counting counts what an enrolment costs the store.
type counting struct {
	enroll.Store
	lookups, changes int
}

func (c *counting) EnrollingClient(ctx context.Context, token, key []byte) (clients.Client, error) {
	c.lookups++
	return c.Store.EnrollingClient(ctx, token, key)
}

func (c *counting) Enroll(ctx context.Context, token []byte, key clients.Credential, recipients []string) (clients.Client, error) {
	c.changes++
	return c.Store.Enroll(ctx, token, key, recipients)
}

// The token is looked up before the recipients are read, and a host in another
// network learns nothing about them. A refusal does not spend the token.
func TestEnrolmentChecksInOrder(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	elsewhere := grants("a.example.com")
	elsewhere[0].Networks = []string{"192.0.2.0/24"}
	token := r.add(t, clients.Client{Name: "web1", Grants: elsewhere})
	st := &counting{Store: r.st}
	reg := enroll.New(enroll.Config{Store: st, Audit: audit.New(audit.Config{Store: r.st, Logger: slog.New(slog.DiscardHandler)})})

	unknown := request(auth.EnrollToken{}, 1, "bad")
	if _, err := reg.Enroll(t.Context(), unknown); !errors.Is(err, enroll.ErrToken) {
		t.Errorf("unknown token: %v", err)
	}
	var denied *policy.Denied
	if _, err := reg.Enroll(t.Context(), request(token, 1, "bad")); !errors.As(err, &denied) || denied.Field != "source" {
		t.Errorf("another network: %v", err)
	}
	req := request(token, 1, "bad")
	req.Addr = netip.MustParseAddr("192.0.2.1")
	var field *cert.FieldError
	if _, err := reg.Enroll(t.Context(), req); !errors.As(err, &field) || field.Field != "recipients" {
		t.Errorf("bad recipients: %v", err)
	}
	if st.lookups != 3 || st.changes != 0 {
		t.Errorf("%d lookups, %d changes", st.lookups, st.changes)
	}
	req.Recipients = []string{recipient(t)}
	if c, err := reg.Enroll(t.Context(), req); err != nil || !slices.Equal(c.Recipients, req.Recipients) {
		t.Errorf("%+v, %v", c, err)
	}
	if got := r.entries(t); len(got) != 4 || !strings.HasPrefix(got[2], "web1|10.0.0.7|enroll|refused|source: ") || got[3] != "web1|192.0.2.1|enroll|done|" {
		t.Errorf("audit trail:\n%s", strings.Join(got, "\n"))
	}
}

// A token enrols one key. The same key may retry after a lost answer. Refusals are
// audited.
func TestEnrolmentRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	token := r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	for range 2 {
		if _, err := r.Enroll(t.Context(), request(token, 1)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := r.Enroll(t.Context(), request(token, 2)); !errors.Is(err, enroll.ErrToken) {
		t.Errorf("another key: %v", err)
	}
	other := r.add(t, clients.Client{Name: "web2", Grants: grants("b.example.com")})
	if _, err := r.Enroll(t.Context(), request(other, 1)); !errors.Is(err, enroll.ErrOtherClient) {
		t.Errorf("the key of another client: %v", err)
	}
	if _, err := r.SetDisabled(t.Context(), "web2", true); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Enroll(t.Context(), request(other, 3)); !errors.Is(err, managed.ErrDisabled) {
		t.Errorf("disabled: %v", err)
	}
	if _, err := r.SetDisabled(t.Context(), "web2", false); err != nil {
		t.Fatal(err)
	}
	many := make([]string, seal.MaxRecipients)
	for i := range many {
		many[i] = recipient(t)
	}
	if _, err := r.Enroll(t.Context(), request(other, 3, many...)); err != nil {
		t.Fatal(err)
	}
	var field *cert.FieldError
	if _, err := r.Enroll(t.Context(), request(other, 3, recipient(t))); !errors.As(err, &field) || field.Field != "recipients" {
		t.Errorf("too many recipients: %v", err)
	}
	r.now = r.now.Add(25 * time.Hour)
	if _, err := r.Enroll(t.Context(), request(token, 1)); !errors.Is(err, enroll.ErrToken) {
		t.Errorf("expired: %v", err)
	}
	r.wantEntries(t,
		"web1|admin|client add|done|",
		"web1|10.0.0.7|enroll|done|",
		"web1|10.0.0.7|enroll|done|",
		"|10.0.0.7|enroll|refused|unknown, expired or used token",
		"web2|admin|client add|done|",
		"|10.0.0.7|enroll|refused|the TLS key belongs to another client",
		"web2|admin|client disable|done|",
		"web2|10.0.0.7|authenticate|refused|client is disabled",
		"web2|admin|client enable|done|",
		"web2|10.0.0.7|enroll|done|",
		"|10.0.0.7|enroll|refused|unknown, expired or used token")
}

// host is an enrolled host.
type host struct {
	pin [32]byte
	id  clients.Identity
}

func (r *rig) enroll(t *testing.T, name string, recipients ...string) host {
	t.Helper()
	issued, err := r.Token(t.Context(), name, enroll.TokenRequest{})
	if err != nil {
		t.Fatal(err)
	}
	_, pin := newKey(t)
	req := request(parseToken(t, issued), 0, recipients...)
	req.Key = pin
	if _, err := r.Enroll(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	return host{pin, r.identity(t, pin)}
}

// identity returns the identity that package auth would return for a key.
func (r *rig) identity(t *testing.T, pin [32]byte) clients.Identity {
	t.Helper()
	c, credential, err := r.st.ClientByCredential(t.Context(), clients.TLSKey, pin[:])
	if err != nil {
		t.Fatal(err)
	}
	return clients.Identity{Client: c, Via: clients.TLSKey, CredentialID: credential.ID, Since: credential.CreatedAt, Addr: inside}
}

func newKey(t *testing.T) (crypto.Signer, [32]byte) {
	t.Helper()
	key, err := cert.GenerateKey(cert.EC256)
	if err != nil {
		t.Fatal(err)
	}
	tlsCert, err := cert.SelfSigned(key, "host")
	if err != nil {
		t.Fatal(err)
	}
	return key, auth.SPKIPin(tlsCert.Leaf)
}

func rekeyRequest(t *testing.T, old [32]byte) (req enroll.RekeyRequest, pin [32]byte) {
	t.Helper()
	key, pin := newKey(t)
	spki, proof, err := auth.ProveKey(key, old)
	if err != nil {
		t.Fatal(err)
	}
	return enroll.RekeyRequest{Old: old, PublicKey: spki, Proof: proof}, pin
}

// A rekey replaces the key and the recipients, and preserves the credential's age.
func TestRekey(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	old, fresh := recipient(t), recipient(t)
	h := r.enroll(t, "web1", old)
	r.now = r.now.Add(time.Hour)
	req, pin := rekeyRequest(t, h.pin)
	req.Recipients, req.Retire = []string{fresh}, []string{old}
	c, err := r.Rekey(t.Context(), h.id, req)
	if err != nil || !slices.Equal(c.Recipients, []string{fresh}) {
		t.Fatalf("%+v, %v", c, err)
	}
	if now := r.identity(t, pin); !now.Since.Equal(h.id.Since) || now.CredentialID != h.id.CredentialID {
		t.Errorf("the credential changed: %+v", now)
	}
	var refused *auth.Error
	again, _ := rekeyRequest(t, h.pin)
	if _, err := r.Rekey(t.Context(), h.id, again); !errors.As(err, &refused) {
		t.Errorf("the old key: %v", err)
	}
	if got := r.entries(t); got[len(got)-1] != "web1|10.0.0.7|client key|done|" {
		t.Errorf("audit trail:\n%s", strings.Join(got, "\n"))
	}
}

// Each fault of a rekey has its type, and the old key remains valid.
func TestRekeyRefusals(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	own := recipient(t)
	h, second := r.enroll(t, "web1", own), r.enroll(t, "web1")
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	field := func(name string) func(error) bool {
		return func(err error) bool {
			var f *cert.FieldError
			return errors.As(err, &f) && f.Field == name
		}
	}
	keyError := func(err error) bool { return errors.As(err, new(*enroll.KeyError)) }
	for name, test := range map[string]struct {
		change func(*clients.Identity, *enroll.RekeyRequest)
		want   func(error) bool
		detail string // of the audit trail
	}{
		"a bearer token": {func(id *clients.Identity, _ *enroll.RekeyRequest) { id.Via = clients.Bearer }, is(enroll.ErrNotTLSKey), ""},
		"another network": {func(id *clients.Identity, _ *enroll.RekeyRequest) {
			id.Client.Grants = []clients.Grant{{Networks: []string{"192.0.2.0/24"}}}
		}, func(err error) bool { return errors.As(err, new(*policy.Denied)) }, "source: "},
		"no proof":          {func(_ *clients.Identity, q *enroll.RekeyRequest) { q.Proof = nil }, keyError, "the proof of the new key is wrong"},
		"no key":            {func(_ *clients.Identity, q *enroll.RekeyRequest) { q.PublicKey = nil }, keyError, "the proof of the new key is wrong"},
		"bad recipients":    {func(_ *clients.Identity, q *enroll.RekeyRequest) { q.Recipients = []string{"bad"} }, field("recipients"), ""},
		"unknown recipient": {func(_ *clients.Identity, q *enroll.RekeyRequest) { q.Retire = []string{recipient(t)} }, field("retire"), ""},
		"the last one":      {func(_ *clients.Identity, q *enroll.RekeyRequest) { q.Retire = []string{own} }, field("retire"), ""},
		"a key of another host": {func(_ *clients.Identity, q *enroll.RekeyRequest) {
			key, pin := newKey(t)
			spki, proof, err := auth.ProveKey(key, second.pin)
			if err != nil {
				t.Fatal(err)
			}
			other := enroll.RekeyRequest{Old: second.pin, PublicKey: spki, Proof: proof}
			if _, err := r.Rekey(t.Context(), second.id, other); err != nil {
				t.Fatal(err)
			}
			second.pin = pin
			if q.PublicKey, q.Proof, err = auth.ProveKey(key, h.pin); err != nil {
				t.Fatal(err)
			}
		}, is(enroll.ErrKeyTaken), "the new TLS key is registered already"},
	} {
		id := h.id
		req, _ := rekeyRequest(t, h.pin)
		test.change(&id, &req)
		before := len(r.entries(t))
		if _, err := r.Rekey(t.Context(), id, req); !test.want(err) {
			t.Errorf("%s: %v", name, err)
		}
		refusals := slices.DeleteFunc(r.entries(t)[before:], func(e string) bool { return !strings.Contains(e, "|refused|") })
		if test.detail == "" && len(refusals) == 0 {
			continue
		}
		if len(refusals) != 1 || !strings.HasPrefix(refusals[0], "web1|10.0.0.7|client key|refused|"+test.detail) || test.detail == "" {
			t.Errorf("%s: audit trail %q", name, refusals)
		}
	}
	if now := r.identity(t, h.pin); !slices.Equal(now.Client.Recipients, []string{own}) {
		t.Errorf("recipients %q", now.Client.Recipients)
	}
}

// Applied changes are counted, and described in the audit trail. Applying the same set
// again changes nothing.
func TestApply(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "old", Grants: grants("old.example.com")})
	r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	limited := grants("b.example.com", "c.example.com")
	limited[0].Networks, limited[0].KeyTypes, limited[0].DailyQuota = []string{"10.0.0.0/8"}, []string{"ec256"}, 5
	own := recipient(t)
	a := clients.Apply{Prune: true, Clients: []clients.Client{
		{Name: "new", Disabled: true, Grants: grants("new.example.com"), Recipients: []string{own}},
		{Name: "web1", Disabled: true, Grants: limited, Recipients: []string{own}},
	}}
	dry := a
	dry.DryRun = true
	for _, apply := range []clients.Apply{dry, a} {
		done, err := r.Apply(t.Context(), apply)
		if err != nil || len(done.Changes) != 3 {
			t.Fatalf("%+v, %v", done, err)
		}
		if got := enroll.ChangedFields(done.Changes[2]); !slices.Equal(got, []string{"disabled", "grants", "recipients"}) {
			t.Errorf("changed: %q", got)
		}
	}
	done, err := r.Apply(t.Context(), a)
	if err != nil || len(done.Changes) != 0 || done.Unchanged != 2 {
		t.Errorf("again: %+v, %v", done, err)
	}
	r.wantEntries(t,
		"old|admin|client add|done|",
		"web1|admin|client add|done|",
		"new|admin|client add|done|clients apply: new.example.com (agent); disabled; 1 recipient",
		"old|admin|client remove|done|clients apply: with 0 certificates",
		"web1|admin|client change|done|clients apply: disabled: false → true; grants: a.example.com (agent) → "+
			"b.example.com,c.example.com (agent; from 10.0.0.0/8; key types ec256; 5 a day); recipients: added "+own)
}

// A set that gives a client too many recipients is invalid.
func TestApplyTooManyRecipients(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com"), Recipients: []string{recipient(t)}})
	many := make([]string, seal.MaxRecipients)
	for i := range many {
		many[i] = recipient(t)
	}
	_, err := r.Apply(t.Context(), clients.Apply{Clients: []clients.Client{{Name: "web1", Grants: grants("a.example.com"), Recipients: many}}})
	var invalid *enroll.InvalidError
	if !errors.As(err, &invalid) || !strings.Contains(err.Error(), fmt.Sprintf("a client has at most %d", seal.MaxRecipients)) {
		t.Errorf("%v", err)
	}
}

// register stores n certificates for a client.
func (r *rig) register(t *testing.T, name string, n int) {
	t.Helper()
	c := r.client(t, name)
	for i := range n {
		_, _, err := r.st.EnsureManaged(t.Context(), managed.Certificate{
			ClientID: c.ID, Mode: clients.ModeAgent, Names: []string{fmt.Sprintf("h%d.example.com", i)}, KeyType: "ec256", DueAt: r.now,
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

// A client is locked out before anything is revoked, a page is bounded in number
// and time, and a CA that fails ends it.
func TestRevokeAll(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("*.example.com")})
	const all = 45
	r.register(t, "web1", all)
	r.revoke = func(managed.Certificate) error {
		if !r.client(t, "web1").Disabled {
			t.Error("revoked before the client was locked out")
		}
		return nil
	}
	seen := map[string]bool{}
	pages := 0
	for after := ""; ; pages++ {
		page, next, err := r.RevokeAll(t.Context(), "web1", cert.Unspecified, after)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range page {
			seen[c.ID] = true
		}
		if after = next; next == "" {
			break
		}
	}
	if len(seen) != all || pages != 3 {
		t.Errorf("%d certificates on %d pages", len(seen), pages)
	}
	r.revoke = func(managed.Certificate) error { r.now = r.now.Add(2 * time.Second); return nil }
	if page, next, err := r.RevokeAll(t.Context(), "web1", cert.Unspecified, ""); err != nil || len(page) != 2 || next != page[1].ID {
		t.Errorf("slow: %d, next %q, %v", len(page), next, err)
	}
	refused := &acme.Error{Kind: acme.Permanent}
	r.revoke = func(managed.Certificate) error { return refused }
	if page, next, err := r.RevokeAll(t.Context(), "web1", cert.Unspecified, ""); err != nil || len(page) != 20 || next == "" || !errors.Is(page[0].Err, refused) {
		t.Errorf("refused: %d, next %q, %v", len(page), next, err)
	}
	refused.Kind = acme.Temporary
	if page, next, err := r.RevokeAll(t.Context(), "web1", cert.Unspecified, ""); err != nil || len(page) != 1 || next != "" {
		t.Errorf("the CA is down: %d, next %q, %v", len(page), next, err)
	}
	if _, _, err := r.RevokeAll(t.Context(), "nobody", cert.Unspecified, ""); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("unknown client: %v", err)
	}
}

// A removed client is unknown, and a disabled one can be enabled again.
func TestLockOut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("a.example.com")})
	for _, disabled := range []bool{true, false} {
		if c, err := r.SetDisabled(t.Context(), "web1", disabled); err != nil || c.Disabled != disabled || r.client(t, "web1").Disabled != disabled {
			t.Errorf("%+v, %v", c, err)
		}
	}
	if c, err := r.Remove(t.Context(), "web1"); err != nil || c.Name != "web1" {
		t.Errorf("%+v, %v", c, err)
	}
	if _, err := r.Remove(t.Context(), "web1"); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("again: %v", err)
	}
	if _, err := r.SetDisabled(t.Context(), "web1", true); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("unknown client: %v", err)
	}
	r.wantEntries(t, "web1|admin|client add|done|", "web1|admin|client disable|done|", "web1|admin|client enable|done|", "web1|admin|client remove|done|")
}
