package challenge

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
)

// Challenge is a challenge that a CA wants answered.
type Challenge struct {
	Name             string // DNS name or IP address; a wildcard's without "*."
	Token            string
	KeyAuthorization string
}

// Solver answers challenges of one type. It is safe for concurrent use.
type Solver interface {
	// Present publishes the answer. When it returns, the CA can see it. After an
	// error nothing stays published. Two orders may present the same challenge.
	Present(ctx context.Context, c Challenge) (Answer, error)
	// Exclusive returns a key for answers that would hide each other. The caller
	// presents one challenge with the same key at a time and pauses after each.
	// Challenges with an empty key never hide each other.
	Exclusive(c Challenge) (key string, pause time.Duration)
	// Close waits for calls in flight, with a timeout. The caller has removed all answers.
	Close() error
}

// Answer is a published answer.
type Answer interface {
	// Fetched is closed when the CA has fetched the answer for the first time. It
	// returns nil if that cannot be known, because another program serves the answer.
	Fetched() <-chan struct{}
	// Remove removes the answer. It is called once.
	Remove()
}

// IsToken reports whether a token is base64url (RFC 8555, section 8.3). It becomes
// the name of a file and a part of a hook's environment.
func IsToken(s string) bool {
	const base64url = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	return s != "" && len(s) <= 255 && strings.Trim(s, base64url) == ""
}

// removing limits how many answers of one order are removed at a time.
const removing = 16

// RemoveAll removes answers, several at a time, and waits until all are removed.
func RemoveAll(all []OrderAnswer) {
	var busy errgroup.Group
	busy.SetLimit(removing)
	for _, a := range all {
		if a.Answer == nil { // the authorization needed none
			continue
		}
		if a.Fetched() != nil { // it is in memory
			a.Remove()
			continue
		}
		busy.Go(func() error {
			a.Remove()
			return nil
		})
	}
	_ = busy.Wait() // nothing fails
}

// kinds of identifiers, the columns of the table in Types.
const (
	host = iota
	address
	wildcard
)

// Types returns the types of challenge that can prove control over a name, best
// first, if the administrator prefers one type. Addresses have no DNS-01 (RFC 8738,
// section 7), and wildcards have only DNS-01.
func Types(preferred string, isAddress, isWildcard bool) []string {
	table := map[string][3][]string{
		acme.HTTP01:    {host: {acme.HTTP01}, address: {acme.HTTP01}, wildcard: {acme.DNS01}},
		acme.TLSALPN01: {host: {acme.TLSALPN01}, address: {acme.TLSALPN01}, wildcard: {acme.DNS01}},
		acme.DNS01:     {host: {acme.DNS01}, address: {acme.HTTP01, acme.TLSALPN01}, wildcard: {acme.DNS01}},
	}
	switch row := table[preferred]; {
	case isWildcard:
		return row[wildcard]
	case isAddress:
		return row[address]
	default:
		return row[host]
	}
}
