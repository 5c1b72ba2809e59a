package e2e

import (
	"context"
	"strings"
	"testing"
)

// legoProgram is Debian's program lego, which is older than the package. It renews with
// the same key here.
type legoProgram struct{ *site }

func startLegoProgram(_ *testing.T, s *site) client { return legoProgram{s} }

func (l legoProgram) lego(ctx context.Context, names []string, args ...string) error {
	all := []string{
		"--server", l.directory, "--path", l.path("lego"), "--email", "admin@example.com", "--accept-tos",
		"--http", "--http.port", l.address(),
	}
	if l.kid != "" {
		all = append(all, "--eab", "--kid", l.kid, "--hmac", l.hmac)
	}
	for _, name := range names {
		all = append(all, "--domains", name)
	}
	return l.run(ctx, []string{"LEGO_CA_CERTIFICATES=" + l.trust}, "lego", append(all, args...)...)
}

func (legoProgram) register(context.Context) error {
	return &lacking{"lego registers when it orders the first certificate"}
}

func (l legoProgram) issue(ctx context.Context, names ...string) ([]*certificate, error) {
	if err := l.lego(ctx, names, "run"); err != nil {
		return nil, err
	}
	return l.read(names[0])
}

func (l legoProgram) read(name string) ([]*certificate, error) {
	file := l.path("lego", "certificates", strings.ReplaceAll(name, "*", "_"))
	return one(file+".crt", file+".key")
}

func (l legoProgram) renew(ctx context.Context, names ...string) ([]*certificate, error) {
	if err := l.lego(ctx, names, "renew", "--days", "10000", "--reuse-key", "--no-random-sleep"); err != nil {
		return nil, err
	}
	return l.read(names[0])
}

func (l legoProgram) revoke(ctx context.Context, c *certificate) error {
	return l.lego(ctx, c.leaf.DNSNames, "revoke", "--keep", "--reason", "4")
}

func (legoProgram) rollover(context.Context) error {
	return &lacking{"lego has no command that changes the account key"}
}
