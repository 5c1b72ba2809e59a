package challenge

import (
	"context"
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
)

// Publisher serves answers to HTTP-01 and TLS-ALPN-01 challenges from memory. It is
// safe for concurrent use. Package peers wraps one, so that all instances on one
// database serve an answer.
type Publisher interface {
	// Publish serves an answer to a challenge of one type until it is removed. The
	// error is ErrNotServed for a type that this process does not serve.
	Publish(ctx context.Context, challengeType string, c Challenge) (Published, error)
}

// Published is an answer in memory. Its Fetched never returns nil.
type Published interface {
	Answer
	// SetFetched notes that a CA has fetched the answer elsewhere.
	SetFetched()
}

// ErrNotServed reports that no port of this process serves answers of a type.
var ErrNotServed = errors.New("this process does not serve answers of this type")

// Memory publishes answers on the ports of this process.
type Memory struct {
	HTTP01  *responder.Responder // if nil, HTTP-01 is not served
	TLSALPN *responder.TLSALPN   // if nil, TLS-ALPN-01 is not served
}

// Publish implements Publisher.
func (m Memory) Publish(_ context.Context, challengeType string, c Challenge) (Published, error) {
	switch {
	case challengeType == acme.HTTP01 && m.HTTP01 != nil:
		return m.HTTP01.Put(c.Name, c.Token, c.KeyAuthorization), nil
	case challengeType == acme.TLSALPN01 && m.TLSALPN != nil:
		a, err := m.TLSALPN.Put(c.Name, c.KeyAuthorization)
		if err != nil {
			return nil, err
		}
		return a, nil
	}
	return nil, ErrNotServed
}

// FromMemory returns a solver for one type of challenge, HTTP-01 or TLS-ALPN-01,
// that publishes its answers with p.
func FromMemory(challengeType string, p Publisher) Solver { return memory{challengeType, p} }

type memory struct {
	challengeType string
	publisher     Publisher
}

func (s memory) Present(ctx context.Context, c Challenge) (Answer, error) {
	a, err := s.publisher.Publish(ctx, s.challengeType, c)
	if err != nil {
		return nil, err
	}
	return a, nil
}

// Exclusive returns a key for TLS-ALPN-01. The CA sends only the name, so a name can
// have only one answer at a time.
func (s memory) Exclusive(c Challenge) (string, time.Duration) {
	if s.challengeType == acme.TLSALPN01 {
		return acme.TLSALPN01 + " " + c.Name, 0
	}
	return "", 0
}

func (memory) Close() error { return nil }
