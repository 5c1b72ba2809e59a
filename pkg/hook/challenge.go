package hook

import "context"

// Challenge describes an HTTP-01 answer that a command publishes or removes. It
// contains no secret, because the CA fetches it over plain HTTP.
type Challenge struct {
	Remove           bool   // true to remove the answer, false to publish it
	Name             string // the identifier
	Token            string // the last part of the path below /.well-known/acme-challenge/
	KeyAuthorization string // the whole answer
}

// RunChallenge runs the command for a challenge, as Run does for an event. When the
// command has exited with code 0, it must have published or removed the answer.
func (h Hook) RunChallenge(ctx context.Context, c Challenge) error {
	return h.run(ctx, c.variables())
}

func (c Challenge) variables() []variable {
	event := "challenge-present"
	if c.Remove {
		event = "challenge-remove"
	}
	return []variable{
		{own + "EVENT", event},
		{own + "NAME", c.Name},
		{own + "TOKEN", c.Token},
		{own + "KEY_AUTHORIZATION", c.KeyAuthorization},

		// certbot: --manual-auth-hook and --manual-cleanup-hook.
		{"CERTBOT_DOMAIN", c.Name},
		{"CERTBOT_TOKEN", c.Token},
		{"CERTBOT_VALIDATION", c.KeyAuthorization},
	}
}
