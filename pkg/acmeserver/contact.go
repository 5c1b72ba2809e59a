package acmeserver

import (
	"fmt"
	"net/mail"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/printable"
)

const maxContact = 320 // bytes of a contact: the longest address has 254

// checkContacts checks the contacts of an account (RFC 8555, section 7.3).
func (s *Server) checkContacts(contacts []string) error {
	if len(contacts) > s.cfg.Limits.Contacts {
		return problem(acme.InvalidContact, 0,
			fmt.Sprintf("contact: there are %d; send at most %d", len(contacts), s.cfg.Limits.Contacts))
	}
	for _, c := range contacts {
		scheme, address, found := strings.Cut(c, ":")
		shown := cut(c, 100)
		switch {
		case !found || !strings.EqualFold(scheme, "mailto"):
			return problem(acme.UnsupportedContact, 0,
				"contact "+shown+": only the scheme mailto is supported; use mailto:admin@example.com")
		case len(c) > maxContact:
			return problem(acme.InvalidContact, 0,
				fmt.Sprintf("contact %s: it is too long; use at most %d bytes", shown, maxContact))
		case strings.Contains(address, "?"):
			return problem(acme.InvalidContact, 0,
				"contact "+shown+": it must not have header fields; remove the part from ? on")
		case !isAddress(address):
			return problem(acme.InvalidContact, 0,
				"contact "+shown+": it must be exactly one mail address; use mailto:admin@example.com")
		}
	}
	return nil
}

// isAddress reports whether s is a mail address and nothing else.
func isAddress(s string) bool {
	a, err := mail.ParseAddress(s)
	return err == nil && a.Name == "" && a.Address == s && printable.Line(s) == s
}
