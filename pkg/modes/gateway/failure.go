package gateway

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// logFailure logs the cause, which the client may not read. It does not log the
// client or the names, which are private as well.
func (g *Gateway) logFailure(ctx context.Context, names cert.Names, err error) {
	log := g.cfg.Logger
	if errors.Is(context.Cause(ctx), ErrStopping) {
		log.Warn("gateway issuance cut off by our own stop")
		return
	}
	if ctx.Err() != nil {
		log.Info("gateway issuance abandoned by its client")
		return
	}
	g.logCause("gateway issuance failed", names, err)
}

// logCause logs a failure. It omits a text that the client received in full.
func (g *Gateway) logCause(message string, names cert.Names, err error) {
	var args []any
	public := false
	var e *acme.Error
	if errors.As(err, &e) {
		args = append(args, "kind", string(e.Kind), "type", e.Type)
		public = e.Error() == e.ForClient()
	}
	if !public {
		args = append(args, "cause", anonymous(err.Error(), names))
	}
	g.cfg.Logger.Warn(message, args...) //nolint:sloglint // one of two constants
}

// secret matches tokens, key authorizations and the values of TXT records, which the
// error of a DNS provider may contain.
var secret = regexp.MustCompile(`[A-Za-z0-9_-]{32,}`)

// anonymous returns text without the requested names and without secrets.
func anonymous(text string, names cert.Names) string {
	text = secret.ReplaceAllString(text, "…")
	longest := slices.Clone(names)
	slices.SortFunc(longest, func(a, b string) int { return len(b) - len(a) })
	for _, name := range longest {
		name = regexp.QuoteMeta(strings.TrimPrefix(name, "*."))
		text = regexp.MustCompile("(?i)"+name).ReplaceAllString(text, "NAME")
	}
	return text
}
