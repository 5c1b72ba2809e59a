package acmems

import (
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

const (
	day                = 24 * time.Hour
	defaultRenewWithin = 14 * day
	maxRenewDays       = 3650
	defaultStorageName = "none"
)

func (p *parser) parseStorage(s section, name string) {
	kind, rest, ok := p.kindOf(s)
	if !ok {
		return
	}
	st := Storage{Name: name, Line: s.line}
	switch kind.value {
	case "none":
		for _, o := range rest {
			p.failAt(o, "a storage of type none has no options; remove it")
		}
	case "file":
		p.parseFiles(s, rest, &st)
	default:
		p.failAt(kind, "unknown type %q; use none or file", kind.value)
	}
	for i, earlier := range p.cfg.Storages {
		if earlier.Name == name {
			p.warn(s.line, "[%s] replaces the one of line %d; remove one of the two", printable.Line(s.name), earlier.Line)
			p.cfg.Storages[i] = st
			return
		}
	}
	p.cfg.Storages = append(p.cfg.Storages, st)
}

func (p *parser) parseFiles(s section, options []option, st *Storage) {
	st.RenewWithin = defaultRenewWithin
	for _, o := range options {
		switch o.key {
		case "directory":
			st.Dir = o.value
		case "renew-within":
			st.RenewWithin = time.Duration(p.number(o, 0, maxRenewDays)) * day
			if st.RenewWithin == 0 {
				p.warnAt(o, "0 means the default of %d days; write that", defaultRenewWithin/day)
				st.RenewWithin = defaultRenewWithin
			}
		default:
			p.failAt(o, "unknown option; remove it")
		}
	}
	if st.Dir == "" {
		p.fail(s.line, "[%s] directory: missing; set it to the folder of the cache", printable.Line(s.name))
	}
}

// chooseStorage determines what blocks use that name no storage.
func (p *parser) chooseStorage() {
	all := p.cfg.Storages
	switch o := p.defaultStorage; {
	case o != nil && o.value == "":
		return
	case o != nil:
		p.storage = p.findStorage(*o)
	case len(all) == 1:
		p.storage = &all[0]
	default:
		s := Storage{Name: unused(defaultStorageName, func(name string) bool { return find(all, name) != nil })}
		p.cfg.Storages = append(all, s)
		p.storage = &s
	}
}

// findStorage returns the one that an option names, never nil, as findVerification does.
func (p *parser) findStorage(o option) *Storage {
	if s := find(p.cfg.Storages, o.value); s != nil {
		return s
	}
	p.failAt(o, "no [storage %q] exists; add it, or write the name of another", o.value)
	return &Storage{}
}
