package e2e

import (
	"context"
	"fmt"
	"testing"
)

// uacme is the program uacme. It trusts the host's roots only, so it runs with a mount
// table of its own in which they are others.
type uacme struct{ *site }

const hostRoots = "/etc/ssl/certs/ca-certificates.crt"

func startUacme(t *testing.T, s *site) client {
	hook := fmt.Sprintf(`#!/bin/sh
# METHOD TYPE IDENT TOKEN AUTH
[ "$2" = http-01 ] || exit 1
case $1 in
begin) printf %%s "$5" >%[1]q/"$4" ;;
*) rm -f %[1]q/"$4" ;;
esac
`, s.webroot(t))
	if !s.solves {
		hook = "#!/bin/sh\necho \"the hook was called: $*\" >&2\nexit 1\n"
	}
	if err := s.write("hook", hook, 0o700); err != nil {
		t.Fatal(err)
	}
	return uacme{s}
}

func (u uacme) uacme(ctx context.Context, args ...string) error {
	script := `mount --bind "$0" ` + hostRoots + ` && exec uacme "$@"`
	wrapped := []string{
		"--map-root-user", "--mount", "sh", "-c", script, u.trust,
		"--confdir", u.path("uacme"), "--acme-url", u.directory, "--yes", "--type", "EC",
	}
	return u.run(ctx, nil, "unshare", append(wrapped, args...)...)
}

func (u uacme) register(ctx context.Context) error {
	args := []string{"new", "admin@example.com"}
	if u.kid != "" {
		args = append([]string{"--eab", u.kid + ":" + u.hmac}, args...)
	}
	return u.uacme(ctx, args...)
}

func (u uacme) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	return u.order(ctx, names)
}

func (u uacme) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	return u.order(ctx, names, "--force")
}

func (u uacme) order(ctx context.Context, names []string, args ...string) ([]*certificate, error) {
	args = append(args, "--no-ocsp", "--hook", u.path("hook"), "issue")
	if err := u.uacme(ctx, append(args, names...)...); err != nil {
		return nil, err
	}
	return one(u.path("uacme", names[0], "cert.pem"), u.path("uacme", "private", names[0], "key.pem"))
}

func (u uacme) revoke(ctx context.Context, c *certificate) error {
	return u.uacme(ctx, "--reason", "4", "revoke", u.path("uacme", c.leaf.DNSNames[0], "cert.pem"))
}

func (u uacme) rollover(ctx context.Context) error { return u.uacme(ctx, "newkey") }
