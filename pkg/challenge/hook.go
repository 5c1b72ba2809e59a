package challenge

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/hook"
)

// hookTimeout limits one run of the administrator's command.
const hookTimeout = time.Minute

// hookSolver answers HTTP-01 through a command, which copies answers to the program
// that serves port 80 of the names.
type hookSolver struct {
	hook   hook.Hook
	log    *slog.Logger
	needed *Holders
}

// HookConfig configures FromHook.
type HookConfig struct {
	Command string   // for the shell
	Environ []string // variables that the command inherits, as NAME=value
	Logger  *slog.Logger
	Places  *Places // if nil, no other solver publishes where the command does
}

// FromHook returns a solver for HTTP-01 whose answers a shell command publishes and
// removes. The command gets the variables of hook.Challenge. All commands count as
// one place, because a changed command usually publishes to the same folder.
func FromHook(cfg HookConfig) Solver {
	return &hookSolver{
		hook: hook.Hook{Command: cfg.Command, Environ: cfg.Environ, Timeout: hookTimeout},
		log:  cfg.Logger, needed: cfg.Places.Holders("hook"),
	}
}

// Present implements Solver.
func (s *hookSolver) Present(ctx context.Context, c Challenge) (Answer, error) {
	if !IsToken(c.Token) {
		return nil, errors.New("the CA's token is not base64url, so the hook does not get it")
	}
	a := &hookAnswer{s, c}
	s.needed.Hold(c)
	if err := s.run(ctx, c, false); err != nil {
		a.Remove() // the command may have published it before it failed
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, err
	}
	return a, nil
}

// Exclusive implements Solver.
func (*hookSolver) Exclusive(Challenge) (string, time.Duration) { return "", 0 }

// Close implements Solver.
func (*hookSolver) Close() error { return nil }

// run runs the command. A client may see its error, so that has no output.
func (s *hookSolver) run(ctx context.Context, c Challenge, remove bool) error {
	err := s.hook.RunChallenge(ctx, hook.Challenge{Remove: remove, Name: c.Name, Token: c.Token, KeyAuthorization: c.KeyAuthorization})
	var failed *hook.Error
	if errors.As(err, &failed) {
		return fmt.Errorf("http-01-hook: %w", failed.Err)
	}
	return err
}

// hookAnswer is a published answer.
type hookAnswer struct {
	solver    *hookSolver
	challenge Challenge
}

// Fetched returns nil: another web server answers.
func (*hookAnswer) Fetched() <-chan struct{} { return nil }

// Remove removes the answer. It logs no name, which may be a gateway's.
func (a *hookAnswer) Remove() {
	if !a.solver.needed.Drop(a.challenge) {
		return
	}
	if err := a.solver.run(context.Background(), a.challenge, true); err != nil {
		a.solver.log.Warn("an HTTP-01 answer could not be removed", "error", err)
	}
}
