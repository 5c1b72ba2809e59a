package acme

import (
	"slices"
	"strings"
)

// validationTypes lists the problem types of a CA that could not validate a name, or
// may not issue for it (RFC 8555, section 6.7), without their namespace.
var validationTypes = []string{"caa", "connection", "dns", "incorrectResponse", "tls", "unauthorized"}

// IsValidation reports whether the CA could not validate a name. The cause is then in
// DNS, at port 80 or in CAA records, where a check finds it.
func (e *Error) IsValidation() bool {
	if slices.ContainsFunc(e.Subproblems, func(s Subproblem) bool { return isValidation(s.Type) }) {
		return true
	}
	// A CA also uses unauthorized for an account, without an identifier.
	return isValidation(e.Type) && (e.Identifier != "" || ShortType(e.Type) != "unauthorized")
}

func isValidation(problemType string) bool {
	return slices.Contains(validationTypes, ShortType(problemType))
}

// IsValidationText reports whether a text of an Error, as it is stored with a
// certificate and sent to its client, says that the CA could not validate a name.
func IsValidationText(text string) bool {
	return slices.ContainsFunc(validationTypes, func(t string) bool { return strings.Contains(text, " ("+t+")") })
}
