package enroll

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// ChangedFields returns the fields of a client that a change alters: disabled, grants,
// recipients.
func ChangedFields(c clients.Change) []string {
	var fields []string
	if c.Before.Disabled != c.After.Disabled {
		fields = append(fields, "disabled")
	}
	if grantsText(c.Before.Grants) != grantsText(c.After.Grants) {
		fields = append(fields, "grants")
	}
	if len(c.Before.Recipients) != len(c.After.Recipients) {
		fields = append(fields, "recipients")
	}
	return fields
}

// Summary describes a change on one line, old → new.
func Summary(c clients.Change) string {
	switch c.Action {
	case clients.Add:
		text := grantsText(c.After.Grants)
		if c.After.Disabled {
			text += "; disabled"
		}
		if n := len(c.After.Recipients); n > 0 {
			text += "; " + counted(int64(n), "recipient")
		}
		return text
	case clients.Remove:
		return "with " + counted(c.Certificates, "certificate")
	case clients.Alter:
	}
	var parts []string
	for _, field := range ChangedFields(c) {
		switch field {
		case "disabled":
			parts = append(parts, fmt.Sprintf("disabled: %t → %t", c.Before.Disabled, c.After.Disabled))
		case "grants":
			parts = append(parts, "grants: "+grantsText(c.Before.Grants)+" → "+grantsText(c.After.Grants))
		case "recipients":
			parts = append(parts, "recipients: added "+strings.Join(added(c.Before.Recipients, c.After.Recipients), ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// added returns the recipients in after that are not in before.
func added(before, after []string) []string {
	return slices.DeleteFunc(slices.Clone(after), func(r string) bool { return seal.FindRecipient(before, r) >= 0 })
}

func counted(n int64, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return strconv.FormatInt(n, 10) + " " + noun
}

func grantsText(grants []clients.Grant) string {
	if len(grants) == 0 {
		return "nothing"
	}
	texts := make([]string, 0, len(grants))
	for _, g := range grants {
		limits := []string{clients.JoinModes(g.Modes, ",")}
		if len(g.Networks) > 0 {
			limits = append(limits, "from "+strings.Join(g.Networks, ","))
		}
		if len(g.KeyTypes) > 0 {
			limits = append(limits, "key types "+strings.Join(g.KeyTypes, ","))
		}
		if len(g.Profiles) > 0 {
			limits = append(limits, "profiles "+strings.Join(g.Profiles, ","))
		}
		if g.MaxNames > 0 {
			limits = append(limits, "at most "+counted(int64(g.MaxNames), "name"))
		}
		if g.DailyQuota > 0 {
			limits = append(limits, strconv.Itoa(g.DailyQuota)+" a day")
		}
		texts = append(texts, strings.Join(g.Names, ",")+" ("+strings.Join(limits, "; ")+")")
	}
	return strings.Join(texts, " and ")
}
