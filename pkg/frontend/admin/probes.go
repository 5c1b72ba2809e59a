package admin

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// ProbeLife is the maximum lifetime of a probe.
const ProbeLife = time.Minute

// maxProbes is the maximum number of probes at a time.
const maxProbes = 64

// probes holds random answers on port 80. acmeproxy check requests them to find out
// which server answers there. The proxy chooses the token and the body. Otherwise, a
// caller could publish the key authorization of another ACME client's order.
type probes struct {
	mu   sync.Mutex
	live map[string]func() // by token, functions that remove the answer; guarded by mu
}

func (f *frontend) addProbe(r *http.Request, req NewProbe) (Probe, error) {
	name, err := cert.ParseName(req.Name)
	if err != nil {
		return Probe{}, refuse(http.StatusUnprocessableEntity, "name: %w", err)
	}
	p := Probe{Token: "acmeproxy-probe-" + rand.Text(), Body: "acmeproxy-probe-" + rand.Text()}
	if !f.probes.reserve(p.Token) {
		return Probe{}, refuse(http.StatusTooManyRequests, "%d probes are active already; try again in a minute", maxProbes)
	}
	remove := f.Publish(r.Context(), name, p.Token, p.Body) // it may wait for other instances
	timer := time.AfterFunc(ProbeLife, func() { f.probes.end(p.Token) })
	f.probes.begun(p.Token, func() {
		timer.Stop()
		remove()
	})
	return p, nil
}

// reserve reserves a place for a probe and reports whether there was room.
func (p *probes) reserve(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.live) >= maxProbes {
		return false
	}
	p.live[token] = func() {}
	return true
}

// begun sets the function that removes a reserved probe's answer.
func (p *probes) begun(token string, remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[token] = remove
}

// end removes a probe. It does nothing for an unknown token.
func (p *probes) end(token string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if remove, ok := p.live[token]; ok {
		delete(p.live, token)
		remove()
	}
}

func (f *frontend) removeProbe(r *http.Request, _ struct{}) (struct{}, error) {
	f.probes.end(r.PathValue("token"))
	return struct{}{}, nil
}

func (f *frontend) ca(r *http.Request, _ struct{}) (CA, error) {
	ca, err := f.CA(r.Context())
	if err != nil {
		return CA{}, refuse(http.StatusBadGateway, "%w", err)
	}
	return ca, nil
}
