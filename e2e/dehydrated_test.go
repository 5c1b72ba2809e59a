package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// dehydrated is the program dehydrated, a shell script. It renews with the same key here.
type dehydrated struct{ *site }

func startDehydrated(t *testing.T, s *site) client {
	config := fmt.Sprintf(`
CA=%q
CURL_OPTS="--cacert %s"
BASEDIR=%q
WELLKNOWN=%q
ACCOUNT_KEYSIZE=2048
ACCOUNT_KEY_ALGO=rsa
KEY_ALGO=prime256v1
PRIVATE_KEY_RENEW=no
EAB_KID=%q
EAB_HMAC_KEY=%q
`, s.directory, s.trust, s.dir, s.webroot(t), s.kid, s.hmac)
	if err := s.write("config", config, 0o600); err != nil {
		t.Fatal(err)
	}
	// The program refuses wildcards with http-01 before it asks the server, and needs a
	// hook for dns-01.
	if err := s.write("hook", "#!/bin/sh\ncase $1 in deploy_challenge) exit 1;; esac\n", 0o700); err != nil {
		t.Fatal(err)
	}
	return dehydrated{s}
}

func (d dehydrated) dehydrated(ctx context.Context, args ...string) error {
	return d.run(ctx, nil, "dehydrated", append(args, "--config", d.path("config"))...)
}

func (d dehydrated) register(ctx context.Context) error {
	return d.dehydrated(ctx, "--register", "--accept-terms")
}

func (d dehydrated) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	return d.order(ctx, names)
}

func (d dehydrated) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	return d.order(ctx, names, "--force")
}

func (d dehydrated) order(ctx context.Context, names []string, args ...string) ([]*certificate, error) {
	args = append(args, "--cron", "--domain", strings.Join(names, " "))
	if !d.solves {
		args = append(args, "--challenge", "dns-01", "--hook", d.path("hook"))
	}
	if err := d.dehydrated(ctx, args...); err != nil {
		return nil, err
	}
	return one(d.path("certs", names[0], "fullchain.pem"), d.path("certs", names[0], "privkey.pem"))
}

func (d dehydrated) revoke(ctx context.Context, c *certificate) error {
	return d.dehydrated(ctx, "--revoke", d.path("certs", c.leaf.DNSNames[0], "cert.pem"))
}

func (dehydrated) rollover(context.Context) error {
	return &lacking{"dehydrated has no command that changes the account key"}
}
