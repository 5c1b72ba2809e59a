package connlimit

import (
	"container/list"
	"net/netip"
)

// The stages of a connection, as indices.
const (
	stageNew = iota
	stageCompleted
	stageKnown
)

// stage holds the connections of one stage by party, and the parties by the
// number of connections that they hold. All operations take constant time.
type stage struct {
	share   Share
	count   int
	byParty map[party]*holder
	bySize  []list.List // of *holder by number of connections, idle for longest in front
	most    int         // connections of the largest holder
}

func newStage(share Share) stage {
	return stage{share: share, byParty: make(map[party]*holder), bySize: make([]list.List, share.PerParty+1)}
}

// party identifies the holder of connections. Either field is set.
type party struct {
	network  netip.Prefix
	clientID string // of a known client
}

// holder is a party that holds connections.
type holder struct {
	party  party
	conns  list.List     // of *Conn, idle for longest in front; not empty
	inSize *list.Element // in stage.bySize; nil if it holds no connection
}

// place is a connection's position in its stage.
type place struct {
	holder   *holder       // nil once the connection is removed
	inHolder *list.Element // in holder.conns
}

// add adds a connection. If the stage is full, it removes and returns another one.
func (s *stage) add(c *Conn) (victim *Conn) {
	h := s.byParty[c.party]
	switch {
	case h != nil && h.conns.Len() >= s.share.PerParty:
		victim = h.oldest()
	case s.count >= s.share.Total && s.most > 0:
		victim = s.bySize[s.most].Front().Value.(*holder).oldest()
	}
	if victim != nil {
		s.remove(victim)
		h = s.byParty[c.party]
	}
	if h == nil {
		h = &holder{party: c.party}
		s.byParty[c.party] = h
	}
	c.place = place{h, h.conns.PushBack(c)}
	s.count++
	s.resize(h)
	return victim
}

func (h *holder) oldest() *Conn { return h.conns.Front().Value.(*Conn) }

// remove removes a connection.
func (s *stage) remove(c *Conn) {
	h := c.holder
	h.conns.Remove(c.inHolder)
	c.place = place{}
	s.count--
	s.resize(h)
	if h.conns.Len() == 0 {
		delete(s.byParty, h.party)
	}
}

// touch makes a connection and its party the youngest.
func (s *stage) touch(c *Conn) {
	h := c.holder
	h.conns.MoveToBack(c.inHolder)
	s.bySize[h.conns.Len()].MoveToBack(h.inSize)
}

// resize updates the position of a holder that has one connection more or less.
func (s *stage) resize(h *holder) {
	size := h.conns.Len()
	if h.inSize != nil { // it is in the list of its former size, one more or one less
		for _, former := range [...]int{size - 1, size + 1} {
			if former > 0 && former < len(s.bySize) {
				s.bySize[former].Remove(h.inSize) // does nothing in the other list
			}
		}
		h.inSize = nil
	}
	if size > 0 {
		h.inSize = s.bySize[size].PushBack(h)
	}
	s.most = max(s.most, size)
	for s.most > 0 && s.bySize[s.most].Len() == 0 {
		s.most--
	}
}
