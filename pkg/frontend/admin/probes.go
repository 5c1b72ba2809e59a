package admin

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// ProbeLife is how long a probe is answered at most.
const ProbeLife = time.Minute

// maxProbes is how many may be answered at a time.
const maxProbes = 64

// probes are random answers on port 80, by which acmeproxy check finds out who
// answers there. Token and body are chosen here: a caller could else publish
// the key authorization of an order that is not the proxy's.
type probes struct {
	mu   sync.Mutex
	live map[string]func() // by token, what ends it; guarded by mu
}

func (f *frontend) addProbe(r *http.Request, req NewProbe) (Probe, error) {
	name, err := cert.ParseName(req.Name)
	if err != nil {
		return Probe{}, refuse(http.StatusUnprocessableEntity, "name: %w", err)
	}
	p := Probe{Token: "acmeproxy-probe-" + rand.Text(), Body: "acmeproxy-probe-" + rand.Text()}
	if !f.probes.reserve(p.Token) {
		return Probe{}, refuse(http.StatusTooManyRequests, "%d probes are being answered already; try again in a minute", maxProbes)
	}
	remove := f.Publish(r.Context(), name, p.Token, p.Body) // it may wait for other instances
	timer := time.AfterFunc(ProbeLife, func() { f.probes.end(p.Token) })
	f.probes.begun(p.Token, func() {
		timer.Stop()
		remove()
	})
	return p, nil
}

// reserve reports whether there was room for one more.
func (p *probes) reserve(token string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.live) >= maxProbes {
		return false
	}
	p.live[token] = func() {}
	return true
}

// begun says what ends a probe for which there is a place.
func (p *probes) begun(token string, remove func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.live[token] = remove
}

// end forgets a probe; it may have ended already.
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
