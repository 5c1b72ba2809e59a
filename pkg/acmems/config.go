package acmems

import (
	"errors"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/bodymac"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

// Config is a configuration with all defaults applied.
type Config struct {
	Account Account
	Logging Logging
	// Listeners of the door. If empty, it has none.
	Listeners []Listener
	// MaxSize is the size of the largest CSR, in bytes. It may be larger than a CSR can be.
	MaxSize int
	// Verifications and Storages have unique names. Those that blocks use by default, and
	// that are not in the file, are the last ones.
	Verifications []Verification
	Storages      []Storage
	Blocks        []Block // in the order in which they are tried
	Warnings      []Problem
}

// Account is the account at the CA.
type Account struct {
	Directory string // URL of the CA
	Dir       string // folder with account.pem and registration.json
	// AcceptTerms accepts all terms of service. Otherwise Terms lists the URLs of those
	// that are accepted.
	AcceptTerms bool
	Terms       []string
}

// Accepts reports whether the terms of service at a URL are accepted.
func (a Account) Accepts(url string) bool {
	if a.AcceptTerms || url == "" {
		return true
	}
	for _, accepted := range a.Terms {
		if accepted == url {
			return true
		}
	}
	return false
}

// Kind is a kind of challenge. The values are those of the key type.
type Kind string

// The kinds of challenges.
const (
	HTTP01       Kind = "http01"
	DNS01Update  Kind = "dns01-dnsUpdate"
	DNS01Server  Kind = "dns01-server"  // for tests: answers DNS queries itself
	DNS01Boulder Kind = "dns01-boulder" // for tests: posts to challtestsrv
)

// Verification describes how control over names is proven.
type Verification struct {
	Name      string
	Kind      Kind
	Listeners []Listener // of HTTP01 and DNS01Server. If empty, it has no listener.
	Update    Update     // of DNS01Update
	URL       string     // of DNS01Boulder
	Line      int        // of the section; 0 if it is a default
}

// Update describes dynamic updates of DNS.
type Update struct {
	Servers []string // host:port, in the order of use
	TTL     time.Duration
	Timeout time.Duration // for one update
	TSIG    TSIG
}

// TSIG is the key that signs updates. With a File, the other fields are empty; if all are,
// updates are not signed. ACMEMS has no such options.
type TSIG struct {
	File string // as tsig-keygen writes it

	Name, Algorithm string
	Secret          string `json:"-"` // base64
}

// Storage describes a cache of certificates.
type Storage struct {
	Name        string
	Dir         string // if empty, nothing is cached
	RenewWithin time.Duration
	Line        int // of the section; 0 if it is a default
}

// Block is an [auth] section: who may have which names. All its methods must accept the
// caller. A block without domains allows nothing.
type Block struct {
	Name         string
	Line         int
	Verification Verification
	Storage      Storage
	methods      methods
	domains      []glob
}

// methods holds the methods of a block. At least one is set if the block has domains.
type methods struct {
	all  bool
	ip   []network // nil: no such method
	hmac *hmacMethod
}

type hmacMethod struct {
	kind bodymac.Type
	key  []byte
}

// Domains returns the patterns of names, as in the file.
func (b *Block) Domains() (texts []string) {
	for _, g := range b.domains {
		texts = append(texts, g.text)
	}
	return texts
}

// Networks returns the addresses that the block accepts, as in the file. If it lists no address,
// it accepts all.
func (b *Block) Networks() (texts []string) {
	for _, n := range b.methods.ip {
		texts = append(texts, n.text)
	}
	return texts
}

// HMAC returns the type of the HMAC that the block requires, or an empty one.
func (b *Block) HMAC() bodymac.Type {
	if b.methods.hmac == nil {
		return ""
	}
	return b.methods.hmac.kind
}

// Parse reads a configuration. The error joins a *Problem for each fault.
func Parse(text []byte) (*Config, error) {
	p := &parser{cfg: &Config{}}
	sections := p.read(string(text))
	p.parseSetup(take(&sections, "setup"))
	p.parseLogging(take(&sections, "logging"))
	p.parseAccount(take(&sections, "account"))
	p.parseMgmt(take(&sections, "mgmt"))
	var blocks []section
	for _, s := range sections {
		switch kind, name, ok := s.subsection(); {
		case ok && kind == "auth":
			blocks = append(blocks, s)
		case ok && kind == "verification":
			p.parseVerification(s, name)
		case ok && kind == "storage":
			p.parseStorage(s, name)
		default:
			p.warn(s.line, "[%s]: unknown section, which is ignored; remove it", printable.Line(s.name))
		}
	}
	p.chooseVerification()
	p.chooseStorage()
	for _, s := range blocks {
		p.parseBlock(s)
	}
	p.cfg.Warnings = p.warnings
	if len(p.faults) > 0 {
		return nil, errors.Join(p.faults...)
	}
	return p.cfg, nil
}

// parser fills a Config.
type parser struct {
	problems
	cfg *Config
	// The defaults of blocks; nil if the file does not set them, empty if it disables them.
	defaultVerification, defaultStorage *option
	// What blocks use that name none; nil if a block must name one.
	verification *Verification
	storage      *Storage
}

// take removes the section of a name. If it does not exist, it is empty.
func take(all *[]section, name string) section {
	for i, s := range *all {
		if s.name == name {
			*all = append((*all)[:i:i], (*all)[i+1:]...)
			return s
		}
	}
	return section{name: name}
}
