package acmems

import (
	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// blockParser fills a Block. No message quotes a value of its section, except names of
// other sections: it may be a misplaced secret.
type blockParser struct {
	*parser
	block    Block
	hmacLine int
	// Nil if the block must name one and did not.
	verification *Verification
	storage      *Storage
}

func (p *parser) parseBlock(s section) {
	_, name, _ := s.subsection()
	b := &blockParser{parser: p, block: Block{Name: name, Line: s.line}, verification: p.verification, storage: p.storage}
	for i, o := range s.options {
		if !b.parse(o) {
			b.ignoreFrom(s.options[i:])
			break
		}
	}
	b.finish(s)
}

// parse reads one option. It returns false if the option is unknown.
func (b *blockParser) parse(o option) bool {
	switch o.key {
	case "domain":
		b.block.domains = append(b.block.domains, parseGlob(o.value))
	case "verification":
		b.verification = b.findVerification(o)
	case "storage":
		b.storage = b.findStorage(o)
	case "ip":
		n, err := parseNetwork(o.value)
		if err != nil {
			b.failAt(o, "%v", err)
		}
		b.block.methods.ip = append(b.block.methods.ip, n)
	case "all":
		if o.value != "yes" {
			b.failAt(o, "another value than yes; write yes, or remove it")
		}
		b.block.methods.all = true
	case "hmac_type", "hmac_key":
		b.parseHMAC(o)
	default:
		return false
	}
	return true
}

func (b *blockParser) parseHMAC(o option) {
	m := b.block.methods.hmac
	if m == nil {
		m = &hmacMethod{}
		b.block.methods.hmac, b.hmacLine = m, o.line
	}
	if o.key == "hmac_key" {
		m.key = []byte(o.value)
		return
	}
	kind, err := bodymac.ParseType(o.value)
	if err != nil {
		b.failAt(o, "no hash function of hashlib; use sha256, sha384 or sha512")
		kind = bodymac.SHA256
	}
	m.kind = kind
}

// ignoreFrom reports an unknown option. ACMEMS ignores it and all options behind it. A
// method among them would make the block narrower than it is, which must not go unnoticed.
func (b *blockParser) ignoreFrom(options []option) {
	unknown, rest := options[0], options[1:]
	for _, o := range rest {
		if isMethod(o.key) && len(b.block.domains) > 0 {
			b.failAt(o, "ignored, because %s in line %d is unknown; remove that line", printable.Line(unknown.key), unknown.line)
			return
		}
	}
	if len(rest) == 0 {
		b.unknown(unknown)
		return
	}
	b.warnAt(unknown, "unknown option, which is ignored together with the rest of the block; remove it")
}

func isMethod(key string) bool {
	return key == "ip" || key == "all" || key == "hmac_type" || key == "hmac_key"
}

// finish checks the block as a whole and adds it.
func (b *blockParser) finish(s section) {
	at := "[" + printable.Line(s.name) + "]"
	m := b.block.methods
	switch {
	case m.hmac != nil && m.hmac.kind == "":
		b.fail(b.hmacLine, "%s hmac_type: missing; set it, for example to sha256", at)
	case m.hmac != nil && len(m.hmac.key) == 0:
		b.fail(b.hmacLine, "%s hmac_key: missing or empty; set it to a secret", at)
	}
	switch {
	case len(b.block.domains) == 0:
		b.warn(s.line, "%s domain: missing, so the block allows nothing; add one", at)
	case !m.all && m.ip == nil && m.hmac == nil:
		b.fail(s.line, "%s: no method, so anyone could have its domains; add ip or hmac_type and hmac_key, or all=yes to mean that", at)
	}
	if b.verification == nil {
		b.fail(s.line, "%s verification: missing, and there is no default; set it", at)
	} else {
		b.block.Verification = *b.verification
	}
	if b.storage == nil {
		b.fail(s.line, "%s storage: missing, and there is no default; set it", at)
	} else {
		b.block.Storage = *b.storage
	}
	b.cfg.Blocks = append(b.cfg.Blocks, b.block)
}
