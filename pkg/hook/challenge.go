package hook

import "context"

// Challenge is an HTTP-01 answer that a command publishes or takes away. None
// of it is a secret: the CA fetches it over plain HTTP.
type Challenge struct {
	Remove           bool   // take it away; false: publish it
	Name             string // the identifier
	Token            string // the last part of the path below /.well-known/acme-challenge/
	KeyAuthorization string // the whole answer
}

// RunChallenge is Run for a challenge. When the command has ended with code 0,
// the answer must be there, or gone.
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
