package issuer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/hook"
)

// challengeHook bounds one run of an administrator's command.
const challengeHook = time.Minute

// hookSolver answers HTTP-01 through a command that brings answers to wherever
// port 80 of the names is.
type hookSolver struct {
	hook   hook.Hook
	log    *slog.Logger
	needed holders
}

func newHookSolver(command string, log *slog.Logger) *hookSolver {
	return &hookSolver{hook: hook.Hook{Command: command, Timeout: challengeHook}, log: log}
}

func (s *hookSolver) present(ctx context.Context, c challenge) (reply, error) {
	if !isToken(c.token) {
		return nil, errors.New("the CA's token is not base64url, so the hook does not get it")
	}
	a := &hookReply{s, c}
	s.needed.hold(c)
	if err := s.run(ctx, c, false); err != nil {
		a.Remove() // it may have come half way
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return a, nil
}

func (*hookSolver) exclusive(challenge) (string, time.Duration) { return "", 0 }

// run leaves the command's output out of the error, which a client may see.
func (s *hookSolver) run(ctx context.Context, c challenge, remove bool) error {
	err := s.hook.RunChallenge(ctx, hook.Challenge{Remove: remove, Name: c.name, Token: c.token, KeyAuthorization: c.keyAuthorization})
	var failed *hook.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("http-01-hook: %w", failed.Err)
	}
	return err
}

// hookReply is a published answer.
type hookReply struct {
	solver *hookSolver
	challenge
}

// Fetched is not known: somebody else's web server answers.
func (*hookReply) Fetched() <-chan struct{} { return nil }

// Remove takes the answer away. No name is logged: it may be a gateway's.
func (a *hookReply) Remove() {
	if !a.solver.needed.drop(a.challenge) {
		return
	}
	if err := a.solver.run(context.Background(), a.challenge, true); err != nil {
		a.solver.log.Warn("an HTTP-01 answer could not be removed", "error", err)
	}
}
