package tunnel

import (
	"errors"
	"maps"
	"slices"
)

// Question is a CA's request for the answer to a token.
type Question struct {
	ID    string // cannot be guessed
	Name  string // canonical
	Token string // well-formed
}

// ErrStreams means that a client has MaxStreams streams.
var ErrStreams = errors.New("the client has too many streams")

// Stream is the way to one host inside.
type Stream struct {
	hub       *Hub
	client    string
	names     []string
	questions chan Question
	closed    bool // guarded by hub.mu
}

// Open returns a stream of a client's host for canonical names, of which no two are
// equal. The caller must have checked that the client may answer for them, and must
// close the stream. Several streams may have the same name: each gets the questions,
// and the first host with an answer gives it.
func (h *Hub) Open(client string, names []string) (*Stream, error) {
	s := &Stream{hub: h, client: client, names: slices.Clone(names), questions: make(chan Question, maxQueued)}
	h.mu.Lock()
	if h.open[client] >= MaxStreams {
		h.mu.Unlock()
		return nil, ErrStreams
	}
	h.open[client]++
	changed := false
	for _, name := range s.names {
		changed = changed || len(h.streams[name]) == 0
		h.streams[name] = append(h.streams[name], s)
	}
	h.mu.Unlock()
	h.tell(changed)
	return s, nil
}

// Questions returns the channel of the stream's questions. It is closed by Close.
func (s *Stream) Questions() <-chan Question { return s.questions }

// Close ends the stream. Its host's questions have no answer then. It may be called
// twice.
func (s *Stream) Close() {
	h := s.hub
	h.mu.Lock()
	if s.closed {
		h.mu.Unlock()
		return
	}
	s.closed = true
	close(s.questions)
	if h.open[s.client]--; h.open[s.client] == 0 {
		delete(h.open, s.client)
	}
	changed := false
	for _, name := range s.names {
		left := slices.DeleteFunc(h.streams[name], func(other *Stream) bool { return other == s })
		if h.streams[name] = left; len(left) == 0 {
			delete(h.streams, name)
			changed = true
		}
	}
	for id, f := range maps.Clone(h.asked) { // bounded: MaxWait and maxQueued
		if f.to[id] == s {
			h.settle(f, id, "")
		}
	}
	h.mu.Unlock()
	h.tell(changed)
}

func (h *Hub) tell(changed bool) {
	if changed && h.cfg.Changed != nil {
		h.cfg.Changed()
	}
}
