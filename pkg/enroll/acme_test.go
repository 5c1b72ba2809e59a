package enroll_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/auth"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/enroll"
	"github.com/acmeproxy/acmeproxy/pkg/managed"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

const thumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs" // RFC 7638, section 3.1

func (r *rig) acme(t *testing.T, name string, spec enroll.ACMESpec) enroll.ACMEIssued {
	t.Helper()
	issued, err := r.ACME(t.Context(), name, spec)
	if err != nil {
		t.Fatal(err)
	}
	return issued
}

// Each kind finds the client by what it prints, and the database holds no secret of it (X1,
// X17, X25).
func TestACME(t *testing.T) {
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("web1.example.com")})
	find := func(kind clients.CredentialKind, verifier []byte, err error) clients.Credential {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		c, credential, err := r.st.ClientByCredential(t.Context(), kind, verifier)
		if err != nil || c.Name != "web1" {
			t.Errorf("%s: client %q, %v", kind, c.Name, err)
		}
		return credential
	}
	eab := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEBinding, Networks: []string{"10.0.0.0/8"}, Life: time.Hour})
	if eab.Directory != proxyURL+"/acme/directory" || eab.Client.Name != "web1" {
		t.Errorf("%+v", eab)
	}
	verifier, err := auth.BindingVerifier(eab.Kid)
	if c := find(clients.ACMEBinding, verifier, err); !slices.Equal(c.Networks, []string{"10.0.0.0/8"}) || !c.ExpiresAt.Equal(r.now.Add(time.Hour)) || c.ID != eab.Credential.ID {
		t.Errorf("stored %+v", c)
	}
	if key, err := auth.BindingKey(bindingSecret, eab.Kid); err != nil || base64.RawURLEncoding.EncodeToString(key) != eab.HMACKey {
		t.Errorf("HMAC key %x, %v", key, err)
	}
	secret := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory})
	entrance, ok := strings.CutPrefix(strings.TrimSuffix(secret.Directory, "/directory"), proxyURL+"/acme/at/")
	verifier, err = auth.EntranceVerifier(entrance)
	if c := find(clients.ACMEDirectory, verifier, err); !ok || secret.Kid+secret.HMACKey != "" || !c.ExpiresAt.IsZero() {
		t.Errorf("%+v, stored %+v", secret, c)
	}
	key := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEKey, Thumbprint: thumbprint})
	verifier, err = auth.ThumbprintVerifier(thumbprint)
	find(clients.ACMEKey, verifier, err)
	if key.Directory != proxyURL+"/acme/at/key/directory" {
		t.Errorf("directory %s", key.Directory)
	}
	_, err = r.ACME(t.Context(), "web1", enroll.ACMESpec{Kind: clients.ACMEKey, Thumbprint: thumbprint})
	var taken *enroll.AccountKeyTakenError
	if !errors.As(err, &taken) || taken.Client != "web1" || taken.CredentialID != key.Credential.ID {
		t.Errorf("the same key again: %v", err)
	}
	traces := proxytest.Traces{}
	for what, text := range map[string]string{"HMAC key": eab.HMACKey, "entrance": entrance} {
		traces.Add(what, text)
	}
	traces["key, bytes"], _ = base64.RawURLEncoding.DecodeString(eab.HMACKey)
	if found := traces.In(proxytest.Walk(t, filepath.Dir(r.path))); len(found) > 0 {
		t.Errorf("stored: %q", found)
	}
	if traces := r.entries(t); !strings.Contains(traces[1], "web1|admin|client acme|done|acme-eab, credential "+eab.Credential.ID+", from 10.0.0.0/8, until ") || strings.Contains(strings.Join(traces, ""), eab.Kid) {
		t.Errorf("audit trail %q", traces)
	}
}

// A credential is replaced or revoked; those of other doors stay.
func TestACMEReplacedAndRevoked(t *testing.T) {
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("web1.example.com")})
	kinds := func() (all []clients.CredentialKind) {
		t.Helper()
		have, err := r.st.Credentials(t.Context(), r.client(t, "web1").ID)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range have {
			all = append(all, c.Kind)
		}
		slices.Sort(all)
		return all
	}
	for range 3 {
		r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory})
	}
	one := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEBinding, Replace: true})
	if len(one.Removed) != 3 || one.Removed[0].Kind != clients.ACMEDirectory {
		t.Errorf("replaced: %+v", one.Removed)
	}
	if got := kinds(); !slices.Equal(got, []clients.CredentialKind{clients.ACMEBinding, clients.Enrolment}) {
		t.Errorf("replaced: %v", got)
	}
	r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory})
	if removed, err := r.RevokeACME(t.Context(), "web1", one.Credential.ID); err != nil || len(removed) != 1 || removed[0].Kind != clients.ACMEBinding {
		t.Errorf("revoked %+v, %v", removed, err)
	}
	if _, err := r.RevokeACME(t.Context(), "web1", one.Credential.ID); !errors.Is(err, enroll.ErrNoCredential) {
		t.Errorf("once more: %v", err)
	}
	two := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEBinding})
	three := r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEKey, Thumbprint: thumbprint})
	for name, want := range map[string]string{two.Kid: two.Credential.ID, thumbprint: three.Credential.ID} {
		if removed, err := r.RevokeACME(t.Context(), "web1", name); err != nil || len(removed) != 1 || removed[0].ID != want {
			t.Errorf("revoked %q: %+v, %v", name, removed, err)
		}
	}
	if removed, err := r.RevokeACME(t.Context(), "web1", ""); err != nil || len(removed) != 1 {
		t.Errorf("all: %+v, %v", removed, err)
	}
	if got := kinds(); !slices.Equal(got, []clients.CredentialKind{clients.Enrolment}) {
		t.Errorf("left: %v", got)
	}
	if _, err := r.RevokeACME(t.Context(), "web2", ""); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("an unknown client: %v", err)
	}
}

// All faults are reported together, and nothing is stored.
func TestACMERefused(t *testing.T) {
	r := newRig(t)
	r.add(t, clients.Client{Name: "web1", Grants: grants("web1.example.com")})
	_, err := r.ACME(t.Context(), "web1", enroll.ACMESpec{Kind: clients.ACMEKey, Thumbprint: "SHA256:x", Networks: []string{"inside", "10.1.0.0/8"}, Life: time.Second})
	var invalid *enroll.InvalidError
	if !errors.As(err, &invalid) || len(invalid.Faults) != 4 {
		t.Errorf("%v", err)
	}
	for _, spec := range []enroll.ACMESpec{{}, {Kind: clients.Bearer}, {Kind: clients.ACMEBinding, Thumbprint: thumbprint}} {
		if _, err := r.ACME(t.Context(), "web1", spec); !errors.As(err, &invalid) {
			t.Errorf("%+v: %v", spec, err)
		}
	}
	if _, err := r.ACME(t.Context(), "web2", enroll.ACMESpec{Kind: clients.ACMEBinding}); !errors.Is(err, managed.ErrNotFound) {
		t.Errorf("an unknown client: %v", err)
	}
	for range 100 {
		r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory})
	}
	if _, err := r.ACME(t.Context(), "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory}); !errors.As(err, &invalid) {
		t.Errorf("one more than the limit: %v", err)
	}
	r.acme(t, "web1", enroll.ACMESpec{Kind: clients.ACMEDirectory, Replace: true})
	without := enroll.New(enroll.Config{Store: r.st})
	if _, err := without.ACME(t.Context(), "web1", enroll.ACMESpec{Kind: clients.ACMEBinding}); !errors.Is(err, enroll.ErrNoACME) {
		t.Errorf("without a hostname: %v", err)
	}
}

// A client of the ACME door needs no other secret.
func TestAddWithoutSecret(t *testing.T) {
	r := newRig(t)
	issued, err := r.Add(t.Context(), clients.Client{Name: "web1", Grants: grants("web1.example.com")}, enroll.SecretSpec{None: true})
	if err != nil || issued.Secret != "" || issued.Kind != "" {
		t.Fatalf("%+v, %v", issued, err)
	}
	if have, err := r.st.Credentials(t.Context(), issued.Client.ID); err != nil || len(have) != 0 {
		t.Errorf("credentials %+v, %v", have, err)
	}
}

var bindingSecret = bytes.Repeat([]byte{7}, auth.BindingSecretLen)
