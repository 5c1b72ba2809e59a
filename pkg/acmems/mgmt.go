package acmems

import (
	"strconv"
	"strings"
)

// defaultMaxSize and maxMaxSize are in bytes. A larger value counts as the latter.
const (
	defaultMaxSize = 4 << 10
	maxMaxSize     = 1 << 30
)

// parseMgmt reads the section of the door itself.
func (p *parser) parseMgmt(s section) {
	p.cfg.MaxSize = defaultMaxSize
	listens := false
	for _, o := range s.options {
		switch o.key {
		case "max-size":
			p.parseMaxSize(o)
		case "default-verification":
			p.defaultVerification = &o
		case "default-storage":
			p.defaultStorage = &o
		case "listener", "mgmt": // the README of ACMEMS has mgmt
			listens = true
			if o.value == "" {
				continue
			}
			if l, ok := p.parseListener(o); ok {
				p.cfg.Listeners = append(p.cfg.Listeners, l)
			}
		default:
			p.unknown(o)
		}
	}
	if !listens {
		p.cfg.Listeners = []Listener{{Host: "127.0.0.1", Port: 1313}, {Host: "::1", Port: 1313}}
	}
}

func (p *parser) parseMaxSize(o option) {
	number, unit := o.value, 1
	if n, ok := strings.CutSuffix(o.value, "k"); ok {
		number, unit = n, 1<<10
	} else if n, ok := strings.CutSuffix(o.value, "m"); ok {
		number, unit = n, 1<<20
	}
	n, err := strconv.ParseUint(strings.TrimSpace(number), 10, 31)
	if err != nil {
		p.failAt(o, "%q is not a size; write bytes, or a number with k or m, such as 16k", o.value)
		return
	}
	p.cfg.MaxSize = int(min(int64(n)*int64(unit), maxMaxSize))
	if n == 0 {
		p.warnAt(o, "0 means the default of %d bytes; write that", defaultMaxSize)
		p.cfg.MaxSize = defaultMaxSize
	}
}
