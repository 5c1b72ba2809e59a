package acmeserver_test

import (
	"context"
	"encoding/base64"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/internal/rawacme"
	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
)

// C2: newNonce answers HEAD with 200 and GET with 204, both without a body.
func TestNewNonce(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	seen := map[string]bool{}
	for method, status := range map[string]int{http.MethodHead: http.StatusOK, http.MethodGet: http.StatusNoContent} {
		r := c.do(method, baseURL+"/new-nonce", nil).want(status)
		if len(r.body) > 0 {
			t.Errorf("%s has a body: %q", method, r.body)
		}
		nonce := r.header.Get("Replay-Nonce")
		if _, err := base64.RawURLEncoding.DecodeString(nonce); err != nil || seen[nonce] {
			t.Errorf("%s: nonce %q: %v", method, nonce, err)
		}
		seen[nonce] = true
	}
}

// C3: a nonce that was used already is badNonce, whose own nonce is good.
func TestNonceOnce(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	url := c.kid
	protected := c.protected(url)
	body := signed(c.key, protected, nil)
	c.do(http.MethodPost, url, body).want(http.StatusOK)
	c.do(http.MethodPost, url, body).refused(acme.BadNonce, http.StatusBadRequest)
	c.post(url, nil).want(http.StatusOK)
}

// C3: nonces are valid on another instance and after a restart, where a used one is not
// valid either.
func TestNonceOfOtherInstance(t *testing.T) {
	t.Parallel()
	storage := acmeserver.NewMemory()
	share := func(c *acmeserver.Config) { c.Storage = storage }
	first := newRaw(t, newServer(t, share))
	first.register(nil).want(http.StatusCreated)
	second := first.as(newServer(t, share))
	second.nonce = first.nonce
	body := signed(first.key, second.protected(first.kid), nil)
	second.do(http.MethodPost, first.kid, body).want(http.StatusOK)
	first.do(http.MethodPost, first.kid, body).refused(acme.BadNonce, http.StatusBadRequest)

	other := first.as(newServer(t, nil)) // of another storage
	other.get("/new-nonce")
	first.nonce = other.nonce
	first.post(first.kid, nil).refused(acme.BadNonce, http.StatusBadRequest)
}

// C3: of many concurrent requests with one nonce, one succeeds.
func TestNonceRace(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	body := signed(c.key, c.protected(c.kid), nil)
	var all sync.WaitGroup
	var succeeded atomic.Int32
	for range 16 {
		all.Go(func() {
			if c.as(c.h).do(http.MethodPost, c.kid, body).status == http.StatusOK {
				succeeded.Add(1)
			}
		})
	}
	all.Wait()
	if n := succeeded.Load(); n != 1 {
		t.Errorf("%d requests succeeded with one nonce", n)
	}
}

// C3: a nonce ends with its life, by the clock of each instance.
func TestNonceExpires(t *testing.T) {
	t.Parallel()
	var passed atomic.Int64
	begin := time.Unix(1_800_000_000, 0)
	c := newRaw(t, newServer(t, func(cfg *acmeserver.Config) {
		cfg.Limits.NonceLife = time.Minute
		cfg.Now = func() time.Time { return begin.Add(time.Duration(passed.Load())) }
	}))
	c.register(nil).want(http.StatusCreated)
	passed.Add(int64(59 * time.Second))
	c.post(c.kid, nil).want(http.StatusOK)
	passed.Add(int64(60 * time.Second))
	c.post(c.kid, nil).refused(acme.BadNonce, http.StatusBadRequest)
	c.post(c.kid, nil).want(http.StatusOK)
}

// C3: each byte of a nonce counts. A nonce in another encoding is malformed (RFC 8555,
// section 6.5.2).
func TestForgedNonce(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	good, err := base64.RawURLEncoding.DecodeString(c.nonce)
	if err != nil {
		t.Fatal(err)
	}
	for i := range good {
		forged := append([]byte(nil), good...)
		forged[i] ^= 1
		c.nonce = b64(forged)
		c.post(c.kid, nil).refused(acme.BadNonce, http.StatusBadRequest)
	}
	for _, unknown := range []string{b64(good[:len(good)-1]), b64(append(good, 0)), b64([]byte("x"))} {
		c.nonce = unknown
		c.post(c.kid, nil).refused(acme.BadNonce, http.StatusBadRequest)
	}
	for _, malformed := range []string{b64(good)[:10] + "+/==", b64(good) + "\n", "\r" + b64(good), b64(good) + "="} {
		c.nonce = malformed
		c.post(c.kid, nil).refused(acme.Malformed, http.StatusBadRequest)
	}
	c.nonce = b64(good)
	c.post(c.kid, nil).want(http.StatusOK)
}

// C3: a request with a wrong signature uses up no nonce. Others could do so otherwise.
func TestNonceOfForgedRequest(t *testing.T) {
	t.Parallel()
	c := newRaw(t, newServer(t, nil))
	c.register(nil).want(http.StatusCreated)
	protected := c.protected(c.kid)
	if r := c.do(http.MethodPost, c.kid, signed(rawacme.NewKey(), protected, nil)); r.status < 400 {
		t.Fatalf("a foreign key is accepted: %s", r.body)
	}
	c.do(http.MethodPost, c.kid, signed(c.key, protected, nil)).want(http.StatusOK)
}

// failing is a storage whose nonces fail while it is broken.
type failing struct {
	*acmeserver.Memory
	broken atomic.Bool
}

var errBroken = errors.New("the disk of db7.internal is full")

func (f *failing) Secret(ctx context.Context, name string, value []byte) ([]byte, error) {
	if f.broken.Load() {
		return nil, errBroken
	}
	return f.Memory.Secret(ctx, name, value)
}

func (f *failing) UseNonce(ctx context.Context, id string, expires time.Time) error {
	if f.broken.Load() {
		return errBroken
	}
	return f.Memory.UseNonce(ctx, id, expires)
}

// C3, C5: a failure of the storage is serverInternal without its cause. It refuses the
// nonce, and ends with the failure.
func TestNonceStorageFails(t *testing.T) {
	t.Parallel()
	storage := &failing{Memory: acmeserver.NewMemory()}
	storage.broken.Store(true)
	s := newServer(t, func(c *acmeserver.Config) { c.Storage = storage })
	w := serve(t, s, http.MethodHead, baseURL+"/new-nonce")
	if w.status != http.StatusInternalServerError || w.header.Get("Replay-Nonce") != "" {
		t.Errorf("%d %v", w.status, w.header)
	}
	storage.broken.Store(false)
	c := newRaw(t, s)
	c.register(nil).want(http.StatusCreated)
	storage.broken.Store(true)
	p := c.post(c.kid, nil).refused(acme.ServerInternal, http.StatusInternalServerError)
	if p.Detail != "internal error; the server's log has the cause" {
		t.Errorf("detail: %q", p.Detail)
	}
	storage.broken.Store(false)
	c.post(c.kid, nil).want(http.StatusOK)
}

// C3: no text is accepted as a nonce, and none causes an internal error.
func FuzzNonce(f *testing.F) {
	c := newRaw(f, newServer(f, nil))
	c.register(nil).want(http.StatusCreated)
	f.Add("")
	f.Add(c.nonce[:20])
	f.Add(c.nonce + "A")
	f.Add(c.nonce[:47] + "\n")
	f.Fuzz(func(t *testing.T, nonce string) {
		r := c.as(c.h)
		r.t = t
		h := object{"alg": "ES256", "nonce": nonce, "url": c.kid, "kid": c.kid}
		if a := r.do(http.MethodPost, c.kid, signed(c.key, h, nil)); a.status != http.StatusBadRequest {
			t.Errorf("%d for the nonce %q: %s", a.status, nonce, a.body)
		}
	})
}
