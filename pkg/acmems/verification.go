package acmems

import (
	"net/url"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/dnsquery"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

const (
	maxServers  = 8
	maxTTL      = 1<<31 - 1 // seconds (RFC 2181, section 8)
	maxTimeout  = 3600      // seconds
	defaultHTTP = "http"    // name
	boulderURL  = "http://localhost:8055/set-txt"
)

func (p *parser) parseVerification(s section, name string) {
	kind, rest, ok := p.kindOf(s)
	if !ok {
		return
	}
	v := Verification{Name: name, Kind: Kind(kind.value), Line: s.line}
	switch v.Kind {
	case HTTP01:
		v.Listeners = p.parseHTTP01(rest)
	case DNS01Update:
		v.Update = p.parseUpdate(rest)
	case DNS01Server:
		v.Listeners = p.parseDNSServer(s, rest)
	case DNS01Boulder:
		v.URL = p.parseBoulder(rest)
	default:
		p.failAt(kind, "unknown type %q; use %s or %s", kind.value, HTTP01, DNS01Update)
	}
	for i, earlier := range p.cfg.Verifications {
		if earlier.Name == name {
			p.warn(s.line, "[%s] replaces the one of line %d; remove one of the two", printable.Line(s.name), earlier.Line)
			p.cfg.Verifications[i] = v
			return
		}
	}
	p.cfg.Verifications = append(p.cfg.Verifications, v)
}

// kindOf returns the first option, which must be the type, and the others.
func (p *parser) kindOf(s section) (kind option, rest []option, ok bool) {
	if len(s.options) == 0 || s.options[0].key != "type" {
		p.fail(s.line, "[%s] type: missing as the first option; set it there", printable.Line(s.name))
		return option{}, nil, false
	}
	return s.options[0], s.options[1:], true
}

// parseHTTP01 returns the listeners. An empty one disables all others, as in ACMEMS.
func (p *parser) parseHTTP01(options []option) []Listener {
	listeners, disabled := []Listener{}, false
	for _, o := range options {
		switch {
		case o.key != "listener":
			p.unknown(o)
		case o.value == "":
			disabled = true
		default:
			if l, ok := p.parseListener(o); ok {
				listeners = append(listeners, l)
			}
		}
	}
	switch {
	case disabled:
		return nil
	case len(listeners) == 0:
		return httpListeners()
	}
	return listeners
}

func httpListeners() []Listener {
	return []Listener{{Host: "0.0.0.0", Port: 1380}, {Host: "::", Port: 1380}}
}

func (p *parser) parseDNSServer(s section, options []option) []Listener {
	listeners := []Listener{{Host: "0.0.0.0", Port: 1353}}
	set := false
	for _, o := range options {
		if o.key != "listener" {
			p.unknown(o)
			continue
		}
		if !set {
			listeners, set = nil, true
		}
		if o.value == "" {
			continue
		}
		if l, ok := p.parseListener(o); ok {
			listeners = append(listeners, l)
		}
	}
	if len(listeners) > 1 {
		p.fail(s.line, "[%s] listener: several; remove all but one", printable.Line(s.name))
	}
	return listeners
}

// parseBoulder returns the URL. ACMEMS ignores set_txt_url, the key in its documentation.
func (p *parser) parseBoulder(options []option) string {
	address := boulderURL
	for _, o := range options {
		if o.key != "set-txt_url" {
			p.unknown(o)
			continue
		}
		u, err := url.Parse(o.value)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			p.failAt(o, "not a URL; write one such as %s", boulderURL)
		}
		address = o.value
	}
	return address
}

func (p *parser) parseUpdate(options []option) Update {
	u := Update{TTL: time.Minute, Timeout: 5 * time.Second}
	var key option
	for _, o := range options {
		switch o.key {
		case "dns-server":
			server, err := dnsquery.ParseServer(o.value)
			if err != nil {
				p.failAt(o, "%v", err)
			}
			if u.Servers = append(u.Servers, server); len(u.Servers) == maxServers+1 {
				p.failAt(o, "more than %d; remove the others", maxServers)
			}
		case "ttl":
			u.TTL = time.Duration(p.number(o, 0, maxTTL)) * time.Second
		case "timeout":
			u.Timeout = time.Duration(p.number(o, 1, maxTimeout)) * time.Second
		case "tsig-file":
			u.TSIG.File = o.value
		case "tsig-key":
			u.TSIG.Name, key = o.value, o
		case "tsig-secret":
			u.TSIG.Secret, key = o.value, o
		case "tsig-algorithm":
			u.TSIG.Algorithm, key = o.value, o
		default:
			p.unknown(o)
		}
	}
	if u.Servers == nil {
		u.Servers = []string{"127.0.0.1:53"}
	}
	if t := u.TSIG; key.line > 0 && (t.File != "" || t.Name == "" || t.Secret == "") {
		p.failAt(key, "incomplete; set either tsig-file, or tsig-key together with tsig-secret")
	}
	return u
}

// number reads a whole number between two others.
func (p *parser) number(o option, least, most int) int {
	n, err := strconv.Atoi(o.value)
	if err != nil || n < least || n > most {
		p.failAt(o, "%q is not a number between %d and %d; write one", o.value, least, most)
		return least
	}
	return n
}

// chooseVerification determines what blocks use that name no verification.
func (p *parser) chooseVerification() {
	all := p.cfg.Verifications
	switch o := p.defaultVerification; {
	case o != nil && o.value == "":
		return
	case o != nil:
		p.verification = p.findVerification(*o)
	case len(all) == 1:
		p.verification = &all[0]
	default:
		v := Verification{
			Name: unused(defaultHTTP, func(name string) bool { return find(all, name) != nil }),
			Kind: HTTP01, Listeners: httpListeners(),
		}
		p.cfg.Verifications = append(all, v)
		p.verification = &v
	}
}

// unused returns the first of name, name-2, … that is not taken.
func unused(name string, isTaken func(string) bool) string {
	free := name
	for i := 2; isTaken(free); i++ {
		free = name + "-" + strconv.Itoa(i)
	}
	return free
}

func (v Verification) name() string { return v.Name }

func (s Storage) name() string { return s.Name }

// find returns the verification or storage of a name, or nil.
func find[T interface{ name() string }](all []T, name string) *T {
	for i := range all {
		if all[i].name() == name {
			return &all[i]
		}
	}
	return nil
}

// findVerification returns the one that an option names. It never returns nil: after a
// fault, there is no Config that could have the result.
func (p *parser) findVerification(o option) *Verification {
	if v := find(p.cfg.Verifications, o.value); v != nil {
		return v
	}
	p.failAt(o, "no [verification %q] exists; add it, or write the name of another", o.value)
	return &Verification{}
}
