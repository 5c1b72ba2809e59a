package peers

import (
	"context"

	"github.com/acmeproxy/acmeproxy/pkg/challenge"
)

// Publisher returns a publisher whose answers are served by local and by all other
// instances. Publish returns when all of them have acknowledged the answer, or after
// ShareTimeout. For a nil *Peers, Publisher returns local itself.
func (p *Peers) Publisher(local challenge.Publisher) challenge.Publisher {
	if p == nil {
		return local
	}
	return &sharing{local, p}
}

type sharing struct {
	local challenge.Publisher
	peers *Peers
}

func (s *sharing) Publish(ctx context.Context, challengeType string, c challenge.Challenge) (challenge.Published, error) {
	a, err := s.local.Publish(ctx, challengeType, c)
	if err != nil {
		return nil, err
	}
	shared := Answer{Type: challengeType, Name: c.Name, Token: c.Token, KeyAuthorization: c.KeyAuthorization}
	if !usesToken(challengeType) {
		shared.Token = ""
	}
	return sharedAnswer{a, s.peers.Share(ctx, shared, a.SetFetched)}, nil
}

// sharedAnswer is an answer that other instances serve, too.
type sharedAnswer struct {
	challenge.Published
	withdraw func()
}

func (a sharedAnswer) Remove() {
	a.withdraw()
	a.Published.Remove()
}
