package admin

import (
	"crypto/rand"
	"net/http"
	"sync"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
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

func (f *frontend) addProbe(_ *http.Request, req NewProbe) (Probe, error) {
	name, err := cert.ParseName(req.Name)
	if err != nil {
		return Probe{}, refuse(http.StatusUnprocessableEntity, "name: %w", err)
	}
	p := Probe{Token: "acmeproxy-probe-" + rand.Text(), Body: "acmeproxy-probe-" + rand.Text()}
	f.probes.mu.Lock()
	defer f.probes.mu.Unlock()
	if len(f.probes.live) >= maxProbes {
		return Probe{}, refuse(http.StatusTooManyRequests, "%d probes are being answered already; try again in a minute", maxProbes)
	}
	f.probes.live[p.Token] = publish(f.Responder, name, p, func() { f.probes.end(p.Token) })
	return p, nil
}

// publish answers the probe until the function that it returns is called, which
// a timer does if nobody else does.
func publish(r *responder.Responder, name string, p Probe, expired func()) (remove func()) {
	answer := r.Put(name, p.Token, p.Body)
	timer := time.AfterFunc(ProbeLife, expired)
	return func() {
		timer.Stop()
		answer.Remove()
	}
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
