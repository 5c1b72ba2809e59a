package tunnel

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"strings"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// subject is what a CA asks for.
type subject struct{ name, token string }

// flight is one question to all hosts of a name, for everybody who waits for the answer.
type flight struct {
	subject subject
	to      map[string]*Stream // hosts that have not answered, by ID of the question
	done    chan struct{}      // closed when answer is set
	answer  string             // the key authorization; empty if no host has one
}

// Ask returns the key authorization that a host inside has for a token of a name. It
// reports false if no host has one, or none in time. addr is the address that asks.
//
// The hosts get one question, however many ask at once, since CAs validate from several
// networks.
func (h *Hub) Ask(ctx context.Context, addr netip.Addr, name, token string) (keyAuthorization string, ok bool) {
	here := h.has(name)
	if !challenge.IsToken(token) || !here && h.cfg.Elsewhere == nil {
		return "", false
	}
	release, ok := h.places.Take(addr)
	if !ok {
		return "", false
	}
	defer release()
	ctx, cancel := context.WithTimeout(ctx, h.cfg.Wait)
	defer cancel()
	if here {
		if answer, ok := h.AskHere(ctx, name, token); ok {
			return answer, true
		}
	}
	if h.cfg.Elsewhere == nil || ctx.Err() != nil {
		return "", false
	}
	answer, ok := h.cfg.Elsewhere(ctx, name, token)
	return answer, ok && IsAnswer(token, answer)
}

// AskHere is Ask for another instance: it asks only hosts whose stream this one holds,
// and waits until ctx ends.
func (h *Hub) AskHere(ctx context.Context, name, token string) (keyAuthorization string, ok bool) {
	if !challenge.IsToken(token) {
		return "", false
	}
	f := h.fly(subject{name, token})
	select {
	case <-f.done:
		return f.answer, f.answer != ""
	case <-ctx.Done():
		return "", false
	}
}

// fly returns the flight of a subject. It begins one if there is none.
func (h *Hub) fly(s subject) *flight {
	h.mu.Lock()
	defer h.mu.Unlock()
	if f := h.flights[s]; f != nil {
		return f
	}
	f := &flight{subject: s, to: map[string]*Stream{}, done: make(chan struct{})}
	for _, stream := range h.streams[s.name] {
		q := Question{ID: rand.Text(), Name: s.name, Token: s.token}
		select {
		case stream.questions <- q:
			f.to[q.ID] = stream
		default: // the host does not read its questions
		}
	}
	if len(f.to) == 0 {
		close(f.done)
		return f
	}
	h.flights[s] = f
	for id := range f.to {
		h.asked[id] = f
	}
	time.AfterFunc(h.cfg.Wait, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.land(f, "")
	})
	return f
}

// The errors of Answer.
var (
	ErrUnknown   = errors.New("no such question waits for an answer of this client")
	ErrNotAnswer = errors.New("the answer is not the token, a full stop and an account key's thumbprint")
)

// Answer takes the answer of a client's host to a question. It is empty if the host has
// none. The error is ErrUnknown or ErrNotAnswer.
func (h *Hub) Answer(client, id, keyAuthorization string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	f := h.asked[id]
	if f == nil || f.to[id].client != client {
		return ErrUnknown
	}
	if keyAuthorization != "" && !IsAnswer(f.subject.token, keyAuthorization) {
		h.settle(f, id, "")
		return ErrNotAnswer
	}
	h.settle(f, id, keyAuthorization)
	return nil
}

// IsAnswer reports whether a text is the key authorization of a token (RFC 8555, section
// 8.1): the token, a full stop and a SHA-256 in base64url.
func IsAnswer(token, keyAuthorization string) bool {
	thumbprint, ok := strings.CutPrefix(keyAuthorization, token+".")
	return ok && len(thumbprint) == 43 && challenge.IsToken(thumbprint)
}

// settle handles the answer to one question. The caller must hold h.mu.
func (h *Hub) settle(f *flight, id, answer string) {
	delete(f.to, id)
	delete(h.asked, id)
	if answer != "" || len(f.to) == 0 {
		h.land(f, answer)
	}
}

// land ends a flight, if it has not ended. The caller must hold h.mu.
func (h *Hub) land(f *flight, answer string) {
	if h.flights[f.subject] != f {
		return
	}
	delete(h.flights, f.subject)
	for id := range f.to {
		delete(h.asked, id)
	}
	f.answer = answer
	close(f.done)
}
