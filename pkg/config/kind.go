package config

import (
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// kind is what a flag's value looks like in YAML.
type kind struct {
	tags []string // the YAML types that fit
	list bool     // a list of such values, or one of them
	want string   // for people: "write …"
}

// kindOf derives it from pflag's name for the flag's type.
func kindOf(f *pflag.Flag) kind {
	name := f.Value.Type()
	if _, ok := f.Value.(pflag.SliceValue); ok {
		k := kindOfType(strings.TrimSuffix(strings.TrimSuffix(name, "Slice"), "Array"))
		k.list = true
		return k
	}
	return kindOfType(name)
}

// textKind is what most settings are.
var textKind = kind{tags: []string{"!!str"}, want: "text"} //nolint:gochecknoglobals // a constant

func kindOfType(name string) kind {
	switch {
	case name == "bool":
		return kind{tags: []string{"!!bool"}, want: "true or false"}
	case strings.HasPrefix(name, "int"), name == "count":
		return kind{tags: []string{"!!int"}, want: "a whole number"}
	case strings.HasPrefix(name, "uint"):
		return kind{tags: []string{"!!int"}, want: "a whole number of 0 or more"}
	case strings.HasPrefix(name, "float"):
		return kind{tags: []string{"!!float", "!!int"}, want: "a number"}
	case name == "duration":
		return kind{tags: []string{"!!str"}, want: "a time with its unit, such as 30s or 12h"}
	case name == quotaType:
		return kind{tags: []string{"!!int", "!!str"}, want: "a whole number or " + QuotaAuto}
	default:
		return textKind
	}
}

// quotes is the hint for a scalar of the wrong kind that only quotes make wrong
// or right.
func (k kind) quotes(tag string) string {
	switch {
	case k.want == textKind.want:
		return ", in quotes"
	case tag == "!!str" && !slices.Contains(k.tags, tag):
		return ", without quotes"
	}
	return ""
}
