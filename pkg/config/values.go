package config

import (
	"cmp"
	"encoding"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// value reads a node into v. want, if not empty, describes a valid value.
func (d *decoder) value(node *yaml.Node, path, want string, v reflect.Value) {
	t := v.Type()
	if isScalar(t) {
		d.scalar(node, path, want, v)
		return
	}
	if node = d.enter(node, path); node == nil {
		return
	}
	kind := yaml.MappingNode
	if t.Kind() == reflect.Slice && keyField(t.Elem()) == nil {
		kind = yaml.SequenceNode
	}
	switch {
	case kind == yaml.SequenceNode && node.Kind != kind && isScalar(t.Elem()): // a list of one
		one := reflect.New(t.Elem()).Elem()
		d.scalar(node, path, want, one)
		v.Set(reflect.Append(v, one))
	case node.Kind != kind:
		d.fault(path, "this is %s; write %s", typeName(node), cmp.Or(want, wanted(t)))
	case t.Kind() == reflect.Struct:
		d.object(node, path, v, nil)
	default:
		d.collection(node, path, want, v)
	}
}

// collection reads a sequence or a mapping of entries of one type into a slice or
// map.
func (d *decoder) collection(node *yaml.Node, path, want string, v reflect.Value) {
	t := v.Type()
	if t.Kind() == reflect.Map {
		v.Set(reflect.MakeMap(t))
	} else {
		v.Set(reflect.MakeSlice(t, 0, min(len(node.Content), 1024)))
	}
	if node.Kind == yaml.MappingNode {
		for _, e := range d.entries(node, path, "a name must be text; write it in quotes") {
			d.member(e, v)
		}
	} else if isScalar(t.Elem()) {
		d.list(node, path, scalarKind(t.Elem(), want), func(text string) error {
			one := reflect.New(t.Elem()).Elem()
			err := setScalar(one, text)
			v.Set(reflect.Append(v, one))
			return err
		})
		return
	} else {
		for i, n := range node.Content {
			e := entry{path: fmt.Sprintf("%s[%d]", path, i), value: n}
			d.lines[e.path] = n.Line
			if d.member(e, v); d.left < 0 {
				return
			}
		}
	}
	if d.left >= 0 {
		d.checked(path, nil, d.check(v.Addr().Interface()))
	}
}

// member reads an entry and adds it to the slice or map v.
func (d *decoder) member(e entry, v reflect.Value) {
	one := reflect.New(v.Type().Elem()).Elem()
	if v.Kind() == reflect.Map {
		d.value(e.value, e.path, "", one)
		v.SetMapIndex(reflect.ValueOf(e.key).Convert(v.Type().Key()), one)
		return
	}
	if index := keyField(one.Type()); index != nil {
		one.FieldByIndex(index).SetString(e.key)
	}
	d.value(e.value, e.path, "", one)
	v.Set(reflect.Append(v, one))
}

// list passes the text of each entry of a sequence to set. It reports whether all
// were valid.
func (d *decoder) list(node *yaml.Node, path string, k kind, set func(text string) error) bool {
	right := true
	for i, n := range node.Content {
		line := n.Line
		if n = d.enter(n, path); n == nil {
			return false
		}
		wrong := k.mismatch(n)
		if wrong == "" && set(n.Value) != nil {
			wrong = k.remedy()
		}
		if wrong != "" {
			d.faultAt(line, fmt.Sprintf("%s[%d]", path, i), wrong)
			right = false
		}
	}
	return right
}

// checked records the faults that a check found, one a line. It omits a fault of a
// key that already has another, because it only follows from that one.
func (d *decoder) checked(path string, known []string, err error) {
	if err == nil {
		return
	}
	for line := range strings.Lines(err.Error()) {
		at, text := path, strings.TrimSpace(line)
		key, rest, _ := strings.Cut(text, ": ")
		if slices.Contains(known, key) || strings.HasPrefix(key, "[") {
			at, text = join(path, key), rest
		}
		if !d.faulty[at] || at == path {
			d.found(at, d.withLines(path, text))
		}
	}
}

// withLines adds the line of each entry of the list at path that a text mentions.
func (d *decoder) withLines(path, text string) string {
	return entryName.ReplaceAllStringFunc(text, func(name string) string {
		if line := d.lines[name]; line > 0 && strings.HasPrefix(name, path+"[") {
			return fmt.Sprintf("%s (line %d)", name, line)
		}
		return name
	})
}

var entryName = regexp.MustCompile(`[a-z-]+\[[0-9]+\]`)

// found records a fault, and allows further faults of the same path.
func (d *decoder) found(path, text string) {
	before := d.faulty[path]
	d.fault(path, "%s", text)
	d.faulty[path] = before
}

// scalar reads a single value into v.
func (d *decoder) scalar(node *yaml.Node, path, want string, v reflect.Value) {
	k := scalarKind(v.Type(), want)
	if text, ok := d.text(node, path, k); ok && setScalar(v, text) != nil {
		d.fault(path, "%s", k.remedy())
	}
}

// text returns a node's text if it is of the wanted kind.
func (d *decoder) text(node *yaml.Node, path string, k kind) (text string, ok bool) {
	if node = d.enter(node, path); node == nil {
		return "", false
	}
	if wrong := k.mismatch(node); wrong != "" {
		d.fault(path, "%s", wrong)
		return "", false
	}
	return node.Value, true
}

func setScalar(v reflect.Value, text string) (err error) {
	switch target := v.Addr().Interface().(type) {
	case *time.Duration:
		*target, err = time.ParseDuration(text)
		return err
	case encoding.TextUnmarshaler:
		return target.UnmarshalText([]byte(text))
	}
	switch {
	case v.Kind() == reflect.String:
		v.SetString(text)
		return nil
	case v.Kind() == reflect.Bool:
		b, err := strconv.ParseBool(text)
		v.SetBool(b)
		return err
	case v.CanInt():
		n, err := strconv.ParseInt(text, 10, v.Type().Bits())
		v.SetInt(n)
		return err
	case v.CanUint():
		n, err := strconv.ParseUint(text, 10, v.Type().Bits())
		v.SetUint(n)
		return err
	case v.CanFloat():
		n, err := strconv.ParseFloat(text, v.Type().Bits())
		v.SetFloat(n)
		return err
	}
	panic("config: no setting can be a " + v.Type().String())
}
