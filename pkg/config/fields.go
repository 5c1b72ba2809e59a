package config

import (
	"cmp"
	"encoding"
	"reflect"
	"slices"
	"strings"
	"time"
)

// field describes a key that the decoder reads into a field of a struct. Tags of the
// struct define it:
//
//	Names []string `yaml:"names" required:"write the names of the certificate"`
//	Out   string   `yaml:"out" want:"the folder for the files" config:"path,nonempty"`
//	Files Layout   `yaml:",inline"`
//
// The tag required makes a missing key a fault and holds the remedy. The tag want
// describes a valid value. The options of config are:
//
//	key       the field holds the key of a map's entry; the map is decoded into a slice, in the file's order
//	path      a relative path starts at the folder of the file
//	nonempty  an empty text is a fault
type field struct {
	key, want, required string
	index               []int
	path, nonempty      bool
}

// fieldsOf lists the keys of a struct type in the order of its fields.
func fieldsOf(t reflect.Type) []field {
	var all []field
	if t.Kind() != reflect.Struct {
		return nil
	}
	for f := range t.Fields() {
		key, rest, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		options := strings.Split(f.Tag.Get("config"), ",")
		switch {
		case strings.Contains(rest, "inline"):
			for _, inner := range fieldsOf(f.Type) {
				inner.index = append(slices.Clone(f.Index), inner.index...)
				all = append(all, inner)
			}
		case key != "" && key != "-":
			all = append(all, field{
				key: key, want: f.Tag.Get("want"), required: f.Tag.Get("required"), index: f.Index,
				path: slices.Contains(options, "path"), nonempty: slices.Contains(options, "nonempty"),
			})
		}
	}
	return all
}

// keysOf lists the keys of a struct type, sorted.
func keysOf(t reflect.Type) []string {
	var keys []string
	for _, f := range fieldsOf(t) {
		keys = append(keys, f.key)
	}
	slices.Sort(keys)
	return keys
}

// keyField returns the index of the field that holds the key of a map's entry.
func keyField(t reflect.Type) []int {
	if t.Kind() == reflect.Struct {
		for f := range t.Fields() {
			if f.Tag.Get("config") == "key" {
				return f.Index
			}
		}
	}
	return nil
}

// isScalar reports whether a type is written as a single value.
func isScalar(t reflect.Type) bool {
	switch t.Kind() {
	case reflect.Struct, reflect.Slice, reflect.Map:
		return reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]())
	}
	return true
}

// isCollection reports whether a type holds any number of groups of keys.
func isCollection(t reflect.Type) bool {
	return t.Kind() == reflect.Map || t.Kind() == reflect.Slice && !isScalar(t.Elem())
}

// wanted describes a value of a type for messages, after "write".
func wanted(t reflect.Type) string {
	switch {
	case isScalar(t):
		return scalarKind(t, "").want
	case t.Kind() == reflect.Struct:
		return "keys such as " + examples(t)
	case t.Kind() == reflect.Map || keyField(t.Elem()) != nil:
		return "the name of each entry as a key"
	case !isScalar(t.Elem()):
		return "a list, each entry with a dash in front and " + wanted(t.Elem())
	}
	return wanted(t.Elem())
}

// examples returns the required keys of a struct, or else the first two.
func examples(t reflect.Type) string {
	fields := fieldsOf(t)
	required := slices.DeleteFunc(slices.Clone(fields), func(f field) bool { return f.required == "" })
	if len(required) == 0 {
		required = fields[:min(2, len(fields))]
	}
	var keys []string
	for _, f := range required {
		keys = append(keys, f.key+":")
	}
	return strings.Join(keys, " and ")
}

// scalarKind returns the YAML kind of a type. want, if not empty, replaces its
// description.
func scalarKind(t reflect.Type, want string) kind {
	k := kindOfType(t.Kind().String())
	if t == reflect.TypeFor[time.Duration]() {
		k = kindOfType("duration")
	} else if reflect.PointerTo(t).Implements(reflect.TypeFor[encoding.TextUnmarshaler]()) {
		k = textKind
	}
	k.want = cmp.Or(want, k.want)
	return k
}
