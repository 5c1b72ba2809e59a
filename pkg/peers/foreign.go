package peers

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// foreignKey identifies an answer of another instance.
type foreignKey struct{ from, id string }

// addForeign serves another instance's answer and acknowledges it. It acknowledges a
// repeated message again, because the first acknowledgement may have been lost. The
// caller must hold p.mu.
func (p *Peers) addForeign(from string, it item) {
	key := foreignKey{from, it.ID}
	if it.Answer.ClientID != "" {
		p.addClient(key, *it.Answer)
		return
	}
	if _, there := p.foreign[key]; !there {
		if !p.running || len(p.foreign) >= maxForeign {
			p.warnLocked("foreign", "too many answers of other instances", "limit", maxForeign)
			return
		}
		answer, err := p.publish(*it.Answer)
		if err != nil {
			p.warnLocked("publish", "cannot give another instance's answer", "error", err)
			return
		}
		if answer != nil {
			gone := make(chan struct{})
			p.foreign[key] = gone
			p.serving.Go(func() { p.serveForeign(key, answer, gone) })
		}
	}
	p.enqueue(item{Do: ack, ID: it.ID, To: from})
}

// publish serves an answer. It returns nil for types that this instance does not serve.
func (p *Peers) publish(a Answer) (challenge.Answer, error) {
	answer, err := p.cfg.Local.Publish(context.Background(), a.Type, challenge.Challenge{
		Name: a.Name, Token: a.Token, KeyAuthorization: a.KeyAuthorization,
	})
	if errors.Is(err, challenge.ErrNotServed) {
		return nil, nil
	}
	return answer, err
}

// dropForeign removes an answer of another instance. The caller must hold p.mu.
func (p *Peers) dropForeign(key foreignKey) {
	if gone, there := p.foreign[key]; there {
		delete(p.foreign, key)
		close(gone)
	}
}

// serveForeign notifies the other instance of the first fetch of its answer. It removes
// the answer when gone is closed, or after Config.Life if that instance has died.
func (p *Peers) serveForeign(key foreignKey, answer challenge.Answer, gone <-chan struct{}) {
	defer answer.Remove()
	life := time.NewTimer(p.cfg.Life)
	defer life.Stop()
	first := answer.Fetched()
	for {
		select {
		case <-first:
			first = nil
			p.mu.Lock()
			p.enqueue(item{Do: fetched, ID: key.id, To: key.from})
			p.mu.Unlock()
		case <-life.C:
			p.mu.Lock()
			p.dropForeign(key)
			p.mu.Unlock()
			return
		case <-gone:
			return
		}
	}
}
