package peers

import (
	"context"
	"errors"
	"net/netip"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// ClientAnswers serves the answers that clients gave other instances. Its methods must
// neither block nor call methods of Peers.
type ClientAnswers interface {
	// Serve serves an answer until it expires or remove is called. A call of end removes
	// it at all instances. Serve returns nil if it does not serve the answer.
	Serve(a challenge.ClientAnswer, end func()) (remove func())
	// Changed reports that clients or their grants may have changed.
	Changed()
}

// clientAnswer is an answer of a client that another instance has.
type clientAnswer struct {
	remove func() // nil if it is not served here
	until  time.Time
}

// ShareClient makes the others serve a client's answer that this instance serves already,
// like Share. It calls ended in a goroutine if the client withdraws the answer at another
// instance. withdraw removes the answer from the others and may be called twice.
func (p *Peers) ShareClient(ctx context.Context, a challenge.ClientAnswer, ended func()) (withdraw func()) {
	return p.share(ctx, clientWire(a), nil, ended)
}

func clientWire(a challenge.ClientAnswer) Answer {
	wire := Answer{
		Type: acme.HTTP01, Name: a.Name, Token: a.Token, KeyAuthorization: a.KeyAuthorization,
		ClientID: a.ClientID, CredentialID: a.CredentialID, Until: a.Until.UnixMilli(),
	}
	if a.Addr.IsValid() {
		wire.Addr = a.Addr.String()
	}
	return wire
}

// client returns the answer of a client. check has accepted its fields.
func (a Answer) client() challenge.ClientAnswer {
	addr, _ := netip.ParseAddr(a.Addr) // empty if the client has none
	return challenge.ClientAnswer{
		ClientID: a.ClientID, CredentialID: a.CredentialID, Addr: addr,
		Name: a.Name, Token: a.Token, KeyAuthorization: a.KeyAuthorization, Until: time.UnixMilli(a.Until),
	}
}

// checkClient checks the fields of a client's answer.
func (a Answer) checkClient() error {
	if a.ClientID == "" {
		if a.CredentialID != "" || a.Addr != "" || a.Until != 0 {
			return errors.New("answer: it has a client's fields, and no client")
		}
		return nil
	}
	if _, err := netip.ParseAddr(a.Addr); a.Addr != "" && err != nil {
		return errors.New("answer: addr is not an address")
	}
	if len(a.ClientID) > maxID || len(a.CredentialID) > maxID || a.Until <= 0 || a.Type != acme.HTTP01 {
		return errors.New("answer: not an answer of a client")
	}
	if challenge.CheckToken(a.Token) != nil || challenge.CheckKeyAuthorization(a.Token, a.KeyAuthorization) != nil {
		return errors.New("answer: not a token and its key authorization")
	}
	return nil
}

// addClient serves a client's answer of another instance. It acknowledges one that it
// does not serve, too, so that the other instance does not wait for it. The caller must
// hold p.mu.
func (p *Peers) addClient(key foreignKey, a Answer) {
	_, there := p.clients[key]
	switch {
	case there || p.cfg.Clients == nil || !p.running:
	case len(p.clients) >= maxClients:
		p.warnLocked("clients", "too many answers of other instances' clients", "limit", maxClients)
	default:
		c := clientAnswer{until: time.UnixMilli(a.Until)}
		c.remove = p.cfg.Clients.Serve(a.client(), func() { p.end(key) })
		p.clients[key] = c
	}
	p.enqueue(item{Do: ack, ID: key.id, To: key.from})
}

// end asks all instances to remove a client's answer.
func (p *Peers) end(key foreignKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running {
		p.enqueue(item{Do: end, ID: key.id, To: key.from})
	}
}

// handleEnd handles the end of a client's answer, which the client requested at another
// instance. The caller must hold p.mu.
func (p *Peers) handleEnd(it item) {
	if it.To != p.cfg.Self {
		p.dropClient(foreignKey{it.To, it.ID})
		return
	}
	if s := p.own[it.ID]; s != nil && s.ended != nil {
		p.serving.Go(s.ended)
	}
}

// dropClient removes a client's answer of another instance. The caller must hold p.mu.
func (p *Peers) dropClient(key foreignKey) {
	c, there := p.clients[key]
	if !there {
		return
	}
	delete(p.clients, key)
	if c.remove != nil {
		c.remove()
	}
}

// dropExpired drops the clients' answers of instances that died. The caller must hold
// p.mu.
func (p *Peers) dropExpired(now time.Time) {
	for key, c := range p.clients {
		if now.After(c.until) {
			p.dropClient(key)
		}
	}
}
