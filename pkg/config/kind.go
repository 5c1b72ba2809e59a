package config

import (
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// kind describes the YAML values of a flag or a field.
type kind struct {
	tags []string // allowed YAML types
	list bool     // also allows a list of such values
	want string   // description for messages, after "write"
}

// kindOf returns the kind of a flag, from pflag's name for its type.
func kindOf(f *pflag.Flag) kind {
	name := f.Value.Type()
	if _, ok := f.Value.(pflag.SliceValue); ok {
		k := kindOfType(strings.TrimSuffix(strings.TrimSuffix(name, "Slice"), "Array"))
		k.list = true
		return k
	}
	return kindOfType(name)
}

// textKind is the kind of most settings.
var textKind = kind{tags: []string{"!!str"}, want: "text"}

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

// mismatch returns why a node is not of the kind, or an empty string. It does not
// repeat the value, which may be a secret.
func (k kind) mismatch(node *yaml.Node) string {
	hint := ""
	if node.Kind == yaml.ScalarNode {
		switch tag := node.ShortTag(); {
		case slices.Contains(k.tags, tag):
			return ""
		case k.want == textKind.want:
			hint = ", in quotes"
		case tag == "!!str":
			hint = ", without quotes"
		}
	}
	return "this is " + typeName(node) + "; write " + k.want + hint
}

// remedy returns the fix for an invalid value of the right kind.
func (k kind) remedy() string {
	if k.want == kindOfType("int").want {
		return "write " + k.want + ", in decimal digits only"
	}
	return "write " + k.want
}

// settings decodes the nested settings of a file and returns the values of the
// flags' keys: a string, or a []string for a list flag.
func (d *decoder) settings(root *yaml.Node, fs *pflag.FlagSet, nested reflect.Value, ignored []string) map[string]any {
	values := map[string]any{}
	keys := map[string]func(entry){}
	fs.VisitAll(func(f *pflag.Flag) {
		if IsSetting(f.Name) {
			keys[f.Name] = func(e entry) {
				if value, ok := d.flag(e, kindOf(f)); ok {
					values[e.key] = value
				}
			}
		}
	})
	for _, key := range ignored {
		keys[key] = func(entry) {}
	}
	d.top(root, "write settings as lines such as hostname: acmeproxy.example.com", nested, keys)
	return values
}

// flag reads the value of a flag's key.
func (d *decoder) flag(e entry, k kind) (any, bool) {
	if isNull(e.value) {
		d.noValue(e.path, k.want)
		return nil, false
	}
	if !k.list {
		return d.text(e.value, e.path, k)
	}
	if e.value.Kind != yaml.SequenceNode {
		text, ok := d.text(e.value, e.path, k)
		return []string{text}, ok
	}
	list := []string{}
	ok := d.list(e.value, e.path, k, func(text string) error {
		list = append(list, text)
		return nil
	})
	return list, ok
}
