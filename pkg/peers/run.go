package peers

import (
	"context"
	"sync"
	"time"
)

// sendPatience is how long one message may take.
const sendTimeout = 5 * time.Second

// Run listens and speaks until ctx ends; then it says good-bye and takes the
// others' answers away. It is called once.
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

func (p *Peers) markReady() { p.readyOnce.Do(func() { close(p.ready) }) }

// send empties the outbox, one message after another.
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

// flush drops what cannot be sent. It is told again: an instance that comes back
// says hello, and one that missed something is waited for in vain, once.
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

// beat says that we are here, and notices who is not.
func (p *Peers) sendHeartbeats(ctx context.Context) {
	t := time.NewTicker(p.cfg.Heartbeat)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			p.mu.Lock()
			p.enqueue(item{Do: here})
			p.forgetLost(time.Now())
			p.logDeafness(time.Now())
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

// Late by half a heartbeat is not lost.
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

// forget waits for an instance no more. Its answers end by themselves: it may be
// at work on an order still.
func (p *Peers) forget(name string) {
	delete(p.others, name)
	p.stopWaitingFor(name)
}

// end is Run's end.
func (p *Peers) shutDown(ctx context.Context) {
	p.mu.Lock()
	p.running = false
	for key := range p.foreign {
		p.dropForeign(key)
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
