package certfile

import (
	"context"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// WriteOneByOne works like WriteAs on a system without links.
func (l Layout) WriteOneByOne(ctx context.Context, dir string, b *cert.Bundle, c Claim) error {
	return l.writeAs(ctx, dir, b, c, oneByOne)
}
