package dnsquery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/miekg/dns"
)

// ErrMismatch reports an answer to another question.
var ErrMismatch = errors.New("the answer is not to the question")

// Exchange sends one message to a server, host:port, and returns its answer after
// Check. The client's Timeout must be set: it limits the whole exchange. An answer
// whose signature is wrong is returned together with the error.
func Exchange(ctx context.Context, client *dns.Client, server string, m *dns.Msg) (*dns.Msg, error) {
	ctx, cancel := context.WithTimeout(ctx, client.Timeout)
	defer cancel()
	conn, err := client.DialContext(ctx, server)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	answer, _, err := client.ExchangeWithConnContext(ctx, m, conn)
	switch {
	case err != nil && ctx.Err() != nil:
		return answer, fmt.Errorf("%w: %w", ctx.Err(), err)
	case err != nil:
		return answer, err
	}
	return answer, Check(m, answer)
}

// Check compares an answer with its question: id, opcode, name, type and class. A
// server may omit the question from an error and from the answer to an update (RFC
// 2136, section 3.8).
func Check(question, answer *dns.Msg) error {
	if answer.Id != question.Id || !answer.Response || answer.Opcode != question.Opcode {
		return ErrMismatch
	}
	if len(answer.Question) == 0 && (question.Opcode == dns.OpcodeUpdate || !hasContent(answer.Rcode)) {
		return nil
	}
	if len(answer.Question) != 1 {
		return ErrMismatch
	}
	asked, got := question.Question[0], answer.Question[0]
	if got.Qtype != asked.Qtype || got.Qclass != asked.Qclass || !strings.EqualFold(got.Name, asked.Name) {
		return ErrMismatch
	}
	return nil
}

// hasContent reports whether a code is NOERROR or NXDOMAIN.
func hasContent(rcode int) bool { return rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError }

// RcodeText returns the name of a code, such as SERVFAIL.
func RcodeText(rcode int) string {
	if text := dns.RcodeToString[rcode]; text != "" {
		return text
	}
	return fmt.Sprintf("code %d", rcode)
}
