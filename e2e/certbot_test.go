package e2e

import (
	"context"
	"errors"
	"os"
	"strconv"
	"testing"
)

// certbot is the program certbot. It has no command that changes the account key.
type certbot struct{ *site }

func startCertbot(_ *testing.T, s *site) client { return certbot{s} }

func (c certbot) certbot(ctx context.Context, args ...string) error {
	args = append(args, "--config-dir", c.path("etc"), "--work-dir", c.path("work"), "--logs-dir", c.path("logs"),
		"--non-interactive", "--server", c.directory)
	err := c.run(ctx, []string{"REQUESTS_CA_BUNDLE=" + c.trust}, "certbot", args...)
	if err == nil {
		return nil
	}
	// Debian's certbot 2.1 prints "AttributeError" instead of a problem. Its log has it.
	log, unread := os.ReadFile(c.path("logs", "letsencrypt.log"))
	return errors.Join(err, unread, errors.New(string(log)))
}

func (c certbot) register(ctx context.Context) error {
	args := []string{"register", "--agree-tos", "--email", "admin@example.com", "--no-eff-email"}
	if c.kid != "" {
		args = append(args, "--eab-kid", c.kid, "--eab-hmac-key", c.hmac)
	}
	return c.certbot(ctx, args...)
}

// issue orders one name with --standalone. Several it orders with a hook that does
// nothing, unless there are challenges.
func (c certbot) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	args := []string{"certonly", "--cert-name", names[0]}
	if len(names) == 1 || c.solves {
		args = append(args, "--standalone", "--http-01-address", "127.0.0.1", "--http-01-port", strconv.Itoa(c.port))
	} else {
		args = append(args, "--manual", "--preferred-challenges", "dns", "--manual-auth-hook", "/bin/true")
	}
	for _, name := range names {
		args = append(args, "--domain", name)
	}
	if err := c.certbot(ctx, args...); err != nil {
		return nil, err
	}
	return c.read(names[0])
}

func (c certbot) read(name string) ([]*certificate, error) {
	return one(c.path("etc", "live", name, "fullchain.pem"), c.path("etc", "live", name, "privkey.pem"))
}

func (c certbot) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	err := c.certbot(ctx, "renew", "--cert-name", names[0], "--force-renewal", "--no-random-sleep-on-renew")
	if err != nil {
		return nil, err
	}
	return c.read(names[0])
}

func (c certbot) revoke(ctx context.Context, cert *certificate) error {
	return c.certbot(ctx, "revoke", "--cert-name", cert.leaf.DNSNames[0], "--reason", "superseded",
		"--no-delete-after-revoke")
}

func (certbot) rollover(context.Context) error {
	return &lacking{"certbot has no command that changes the account key"}
}
