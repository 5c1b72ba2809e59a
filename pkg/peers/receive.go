package peers

import (
	"slices"
	"time"
)

// hearing is how well we hear. The proof is our own voice.
type reception struct {
	since    time.Time // when we began, on this connection
	own      time.Time // when we heard ourselves last
	down     error     // why there is no connection; nil: there is one
	skewed   time.Time // when a message came from another time
	deaf     bool      // and it was logged
	skewedBy string    // who sent it
}

// remedy is for a connection on which LISTEN is taken and nothing ever comes.
const remedy = "connect to the PostgreSQL server itself: a pooler such as PgBouncer in between takes LISTEN and does not deliver"

func (p *Peers) isDeaf(now time.Time) bool {
	h := p.reception
	return h.down == nil && now.Sub(h.own) >= p.deafAfter() && now.Sub(h.since) >= p.deafAfter()
}

func (p *Peers) problem(now time.Time) string {
	switch h := p.reception; {
	case h.down != nil:
		return "other instances are not heard: " + h.down.Error()
	case p.isDeaf(now):
		return "other instances are not heard, nor is this one by itself: " + remedy
	case !h.skewed.IsZero() && now.Sub(h.skewed) < p.forgetAfter():
		return "the clock of " + h.skewedBy + " is not in step with this one, so it is not heard: run NTP on both hosts"
	}
	return ""
}

// connected greets the others. What we said before may not have been heard.
func (p *Peers) connected() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reception.down != nil {
		p.cfg.Logger.Info("other instances can be heard again")
	}
	p.reception.down, p.reception.since = nil, time.Now()
	for _, o := range p.others {
		o.silent = false // it may have been us who did not hear
	}
	p.enqueue(item{Do: hello})
	p.enqueueOwn()
}

// sayOwn tells all our answers, to whom they may be new.
func (p *Peers) enqueueOwn() {
	for _, s := range p.own {
		p.enqueue(s.item)
	}
}

func (p *Peers) disconnected(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reception.down == nil {
		p.cfg.Logger.Warn("other instances cannot be heard; trying again", "error", err)
	}
	p.reception.down = err
}

// noticeDeafness logs it when it begins and when it ends.
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

// heard takes one text of the channel. Nothing here waits for the network.
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

// meet notes that an instance is there. Whoever is new or says hello may not
// know us, nor what we answer; and who waits for all waits for it as well.
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

// acknowledged is for an answer of ours; who acknowledges is not silent.
func (p *Peers) handleAck(from string, it item) {
	if it.To != p.cfg.Self {
		return
	}
	if o := p.others[from]; o != nil { // else it said good-bye before
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

// leave is good-bye: nothing of it is under way any more.
func (p *Peers) removeInstance(from string) {
	p.cfg.Logger.Info("another instance has stopped", "instance", from)
	p.forget(from)
	for key := range p.foreign {
		if key.from == from {
			p.dropForeign(key)
		}
	}
}
