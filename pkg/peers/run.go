package peers

import (
	"context"
	"sync"
	"time"
)

// sendTimeout is the timeout for sending one message.
const sendTimeout = 5 * time.Second

// Run sends and receives messages until ctx ends. Then it sends a bye and removes the
// answers of the others. It must be called only once.
func (p *Peers) Run(ctx context.Context) {
	if p == nil {
		<-ctx.Done()
		return
	}
	p.mu.Lock()
	p.running, p.reception.since = true, time.Now()
	p.mu.Unlock()
	late := time.AfterFunc(ShareTimeout, p.markReady)
	defer late.Stop()
	var parts sync.WaitGroup
	parts.Go(func() {
		p.cfg.Bus.Listen(ctx, p.connected, p.receive, p.disconnected)
	})
	parts.Go(func() { p.send(ctx) })
	parts.Go(func() { p.sendHeartbeats(ctx) })
	parts.Wait()
	p.shutDown(context.WithoutCancel(ctx))
}

// markReady lets calls of Share continue.
func (p *Peers) markReady() { p.readyOnce.Do(func() { close(p.ready) }) }

// send sends the items in the outbox, one message after another.
func (p *Peers) send(ctx context.Context) {
	for {
		select {
		case <-p.out.more:
			p.flush(ctx)
		case <-ctx.Done():
			return
		}
	}
}

// flush sends all items in the outbox, and drops those that cannot be sent. Own answers
// are sent again after a hello or a reconnection. If an instance missed an answer,
// Share waits for it once, until the timeout.
func (p *Peers) flush(ctx context.Context) {
	for items := p.out.take(); len(items) > 0 && ctx.Err() == nil; items = p.out.take() {
		text, err := sealMessage(p.box, message{From: p.cfg.Self, At: time.Now().UnixMilli(), Items: items})
		if err == nil {
			sending, cancel := context.WithTimeout(ctx, sendTimeout)
			err = p.cfg.Bus.Notify(sending, text)
			cancel()
		}
		if err != nil && ctx.Err() == nil {
			p.warn("send", "cannot tell the other instances", "error", err)
		}
	}
}

// sendHeartbeats sends heartbeats, and forgets instances whose heartbeats are missing.
func (p *Peers) sendHeartbeats(ctx context.Context) {
	t := time.NewTicker(p.cfg.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.enqueue(item{Do: here})
			p.forgetLost(time.Now())
			p.dropExpired(time.Now())
			p.logDeafness(time.Now())
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// A message may be late by half a heartbeat.
func (p *Peers) forgetAfter() time.Duration { return 3*p.cfg.Heartbeat + p.cfg.Heartbeat/2 }
func (p *Peers) deafAfter() time.Duration   { return p.cfg.Heartbeat + p.cfg.Heartbeat/2 }

func (p *Peers) forgetLost(now time.Time) {
	for name, o := range p.others {
		if now.Sub(o.heardAt) > p.forgetAfter() {
			p.cfg.Logger.Warn("another instance is not heard any more", "instance", name)
			p.forget(name)
		}
	}
}

// forget removes an instance and stops waiting for it. Its answers are served until
// they expire, because it may still be processing an order.
func (p *Peers) forget(name string) {
	delete(p.others, name)
	p.stopWaitingFor(name)
}

// shutDown removes the others' answers and sends a bye.
func (p *Peers) shutDown(ctx context.Context) {
	p.mu.Lock()
	p.running = false
	for key := range p.foreign {
		p.dropForeign(key)
	}
	for key := range p.clients {
		p.dropClient(key)
	}
	for name := range p.others {
		p.forget(name)
	}
	p.enqueue(item{Do: bye})
	p.mu.Unlock()
	p.serving.Wait()
	ctx, cancel := context.WithTimeout(ctx, ShareTimeout)
	defer cancel()
	p.flush(ctx)
}
