package peers

import (
	"slices"
	"time"
)

// reception holds the state of the listening connection. The instance's own messages
// prove that it works.
type reception struct {
	since    time.Time // start of the current connection
	own      time.Time // time of the last message from this instance itself
	down     error     // why there is no connection; if nil, there is one
	skewed   time.Time // time of the last message with a wrong clock
	deaf     bool      // nothing is received, and this was logged
	skewedBy string    // sender of the message with a wrong clock
}

// remedy is for a connection that accepts LISTEN and never delivers a notification.
const remedy = "connect to the PostgreSQL server itself: a pooler such as PgBouncer in between takes LISTEN and does not deliver"

// isDeaf reports whether there is a connection that delivers nothing.
func (p *Peers) isDeaf(now time.Time) bool {
	h := p.reception
	return h.down == nil && now.Sub(h.own) >= p.deafAfter() && now.Sub(h.since) >= p.deafAfter()
}

// problem describes why messages of others may not arrive, or returns "".
func (p *Peers) problem(now time.Time) string {
	switch h := p.reception; {
	case h.down != nil:
		return "other instances are not heard: " + h.down.Error()
	case p.isDeaf(now):
		return "other instances are not heard, and this instance does not receive its own messages: " + remedy
	case !h.skewed.IsZero() && now.Sub(h.skewed) < p.forgetAfter():
		return "the clock of " + h.skewedBy + " is not in step with this one, so it is not heard: run NTP on both hosts"
	}
	return ""
}

// connected sends a greeting and all own answers again, because the others may have
// missed earlier messages.
func (p *Peers) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reception.down != nil {
		p.cfg.Logger.Info("other instances can be heard again")
	}
	p.reception.down, p.reception.since = nil, time.Now()
	for _, o := range p.others {
		o.silent = false // this instance may have missed the acknowledgement
	}
	p.enqueue(item{Do: hello})
	p.enqueueOwn()
}

// enqueueOwn sends all own answers, for instances that may not know them.
func (p *Peers) enqueueOwn() {
	for _, s := range p.own {
		p.enqueue(s.item)
	}
}

// disconnected records why the connection was lost.
func (p *Peers) disconnected(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reception.down == nil {
		p.cfg.Logger.Warn("other instances cannot be heard; trying again", "error", err)
	}
	p.reception.down = err
}

// logDeafness logs when this instance stops receiving its own messages, and when it
// receives them again.
func (p *Peers) logDeafness(now time.Time) {
	deaf := p.isDeaf(now)
	switch {
	case deaf && !p.reception.deaf:
		p.cfg.Logger.Warn("this instance hears neither itself nor others by way of the database", "remedy", remedy)
	case !deaf && p.reception.deaf:
		p.cfg.Logger.Info("this instance hears itself again")
	}
	p.reception.deaf = deaf
}

// receive handles one text from the channel. It never waits for the network.
func (p *Peers) receive(text string) {
	m, items, err := openMessage(p.box, text)
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.warnLocked("strange", "a message in the database's channel is not from an instance with this identity and version", "error", err)
	case m.From == p.cfg.Self:
		if p.reception.own.IsZero() {
			time.AfterFunc(helloTimeout, p.markReady)
		}
		p.reception.own = now
	case m.age(now).Abs() > maxSkew:
		p.reception.skewed, p.reception.skewedBy = now, m.From
		p.warnLocked("skew", "another instance's clock is not in step with this one, so it is not heard; run NTP on both hosts", "instance", m.From, "behind", m.age(now).Round(time.Second).String())
	default:
		p.handle(now, m.From, items)
	}
}

// handle handles the items of another instance's message.
func (p *Peers) handle(now time.Time, from string, items []item) {
	if !p.noteSender(now, from, slices.ContainsFunc(items, func(it item) bool { return it.Do == hello })) {
		return
	}
	for _, it := range items {
		switch it.Do {
		case put:
			p.addForeign(from, it)
		case remove:
			p.dropForeign(foreignKey{from, it.ID})
			p.dropClient(foreignKey{from, it.ID})
		case end:
			p.handleEnd(it)
		case changed:
			if p.cfg.Clients != nil {
				p.cfg.Clients.Changed()
			}
		case ack, fetched:
			p.handleAck(from, it)
		case due:
			p.cfg.Due()
		case news:
			p.cfg.News(it.ID)
		case bye:
			p.removeInstance(from)
		}
	}
}

// noteSender records the sender of a message, and reports whether there was room for
// it. A new instance, or one that sends hello, may know neither this instance nor its
// answers, so it gets all of them. Pending calls of Share then wait for it, too.
func (p *Peers) noteSender(now time.Time, from string, greets bool) bool {
	o := p.others[from]
	if o == nil {
		if len(p.others) >= maxOthers {
			p.warnLocked("others", "there are more instances than this one can know", "limit", maxOthers)
			return false
		}
		o, greets = &other{}, true
		p.others[from] = o
		p.cfg.Logger.Info("another instance is heard", "instance", from)
	}
	o.heardAt = now
	if !greets {
		return true
	}
	o.silent = false
	for _, s := range p.own {
		if !s.closed {
			s.waiting[from] = true
		}
	}
	p.enqueue(item{Do: here})
	p.enqueueOwn()
	return true
}

// handleAck handles the acknowledgement or the fetch of an own answer.
func (p *Peers) handleAck(from string, it item) {
	if it.To != p.cfg.Self {
		return
	}
	if o := p.others[from]; o != nil { // nil after a bye
		o.silent = false
	}
	s := p.own[it.ID]
	if s == nil {
		return
	}
	delete(s.waiting, from)
	s.closeIfDone()
	if it.Do == fetched && s.fetched != nil {
		s.fetched()
	}
}

// removeInstance handles the bye of an instance, which needs its answers no longer. Those
// of clients stay until they expire, because the clients' CAs may still fetch them.
func (p *Peers) removeInstance(from string) {
	p.cfg.Logger.Info("another instance has stopped", "instance", from)
	p.forget(from)
	for key := range p.foreign {
		if key.from == from {
			p.dropForeign(key)
		}
	}
}
