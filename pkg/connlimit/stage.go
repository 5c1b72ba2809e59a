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

// stage holds the connections of one stage by address, and the addresses by
// the number of connections that they hold. All operations take constant time.
type stage struct {
	share  Share
	count  int
	byAddr map[netip.Prefix]*holder
	bySize []list.List // of *holder with so many connections, idle for longest in front
	most   int         // connections of the largest holder
}

func newStage(share Share) stage {
	return stage{share: share, byAddr: make(map[netip.Prefix]*holder), bySize: make([]list.List, share.PerAddr+1)}
}

// holder is an address that holds connections.
type holder struct {
	addr   netip.Prefix
	conns  list.List     // of *Conn, idle for longest in front; not empty
	inSize *list.Element // nil if it holds none
}

// place is where a connection is in its stage.
type place struct {
	holder *holder       // nil once the connection is counted out
	inAddr *list.Element // in holder.conns
}

// add counts a connection in, and the one out whose place it takes.
func (s *stage) add(c *Conn) (victim *Conn) {
	h := s.byAddr[c.addr]
	switch {
	case h != nil && h.conns.Len() >= s.share.PerAddr:
		victim = h.oldest()
	case s.count >= s.share.Total && s.most > 0:
		victim = s.bySize[s.most].Front().Value.(*holder).oldest()
	}
	if victim != nil {
		s.remove(victim)
		h = s.byAddr[c.addr]
	}
	if h == nil {
		h = &holder{addr: c.addr}
		s.byAddr[c.addr] = h
	}
	c.place = place{h, h.conns.PushBack(c)}
	s.count++
	s.resize(h)
	return victim
}

func (h *holder) oldest() *Conn { return h.conns.Front().Value.(*Conn) }

// remove counts a connection out.
func (s *stage) remove(c *Conn) {
	h := c.place.holder
	h.conns.Remove(c.place.inAddr)
	c.place = place{}
	s.count--
	s.resize(h)
	if h.conns.Len() == 0 {
		delete(s.byAddr, h.addr)
	}
}

// touch makes a connection and its address the youngest.
func (s *stage) touch(c *Conn) {
	h := c.place.holder
	h.conns.MoveToBack(c.place.inAddr)
	s.bySize[h.conns.Len()].MoveToBack(h.inSize)
}

// resize moves a holder that has one connection more or less than before.
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
