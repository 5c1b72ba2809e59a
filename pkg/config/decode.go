package config

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	maxAliased = 2 << 20 // additional nodes and bytes for aliases in a file
	maxFaults  = 100     // maximum number of reported faults of a file
)

// Checker is implemented by nested settings with rules beyond their types. Check may
// convert values to their canonical form. Its error has one line for each fault. A
// line begins with the key and ": ", for a list's entry with [0].key.
type Checker interface{ Check() error }

func callCheck(value any) error {
	if c, ok := value.(Checker); ok {
		return c.Check()
	}
	return nil
}

// decoder fills tagged Go values from the nodes of one file; see field for the
// tags. It reports all unknown, duplicate and missing keys and all values of the
// wrong type.
type decoder struct {
	file   string
	dir    string                // base of relative paths
	check  func(value any) error // called with a pointer to each struct and each list of structs
	left   int                   // remaining nodes and bytes; only aliases can exhaust them
	lines  map[string]int        // line of each key, by its path
	faulty map[string]bool       // paths that have a fault
	faults []fault
	more   int // faults beyond maxFaults

	schemas map[reflect.Type]schema // of the types read so far
}

type schema struct {
	fields map[string]field
	known  []string
}

type fault struct {
	line int // 0 if unknown
	text string
}

// newDecoder returns a decoder for a file of size bytes.
func newDecoder(file string, size int, check func(any) error) *decoder {
	return &decoder{
		file: file, check: check, left: 2*size + maxAliased,
		lines: map[string]int{}, faulty: map[string]bool{}, schemas: map[reflect.Type]schema{},
	}
}

// err joins the faults in the order of their lines.
func (d *decoder) err() error {
	slices.SortStableFunc(d.faults, func(a, b fault) int { return cmp.Compare(a.line, b.line) })
	var all []error
	for _, f := range d.faults {
		all = append(all, errors.New(f.text))
	}
	if d.more > 0 {
		all = append(all, fmt.Errorf("%s: and %d faults more", d.file, d.more))
	}
	return errors.Join(all...)
}

// fault records a fault of the value at path, which is empty for the whole file.
func (d *decoder) fault(path, format string, args ...any) {
	d.faultAt(d.line(path), path, fmt.Sprintf(format, args...))
}

func (d *decoder) faultAt(line int, path, text string) {
	entry, _, _ := strings.Cut(strings.TrimPrefix(path, parent(path)), "[")
	d.faulty[path], d.faulty[parent(path)+entry] = true, true
	if len(d.faults) == maxFaults {
		d.more++
		return
	}
	d.faults = append(d.faults, fault{line, d.where(line, path) + text})
}

// where returns the beginning of a message about the value at path.
func (d *decoder) where(line int, path string) string {
	where := d.file + ":"
	if line > 0 {
		where += strconv.Itoa(line) + ":"
	}
	if path != "" {
		where += " " + printable(path) + ":"
	}
	return where + " "
}

// line returns the line of the nearest key at or above path.
func (d *decoder) line(path string) int {
	for path != "" {
		if line := d.lines[path]; line > 0 {
			return line
		}
		path = path[:max(0, strings.LastIndexAny(path, ".["))]
	}
	return d.lines[""]
}

// parent returns path up to its last dot.
func parent(path string) string { return path[:strings.LastIndexByte(path, '.')+1] }

// join returns the path of a key or of an entry such as [0].
func join(path, key string) string {
	if path == "" || strings.HasPrefix(key, "[") {
		return path + key
	}
	return path + "." + key
}

// enter counts a node and follows an alias. It returns nil when the limit is
// exceeded.
func (d *decoder) enter(node *yaml.Node, path string) *yaml.Node {
	if d.left < 0 {
		return nil
	}
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if d.left -= 1 + len(node.Value); d.left < 0 {
		d.fault(path, "aliases make this file too large; use fewer of them")
		return nil
	}
	return node
}

// entry is one key of a mapping.
type entry struct {
	key, path string
	value     *yaml.Node
}

// entries lists the keys of a mapping in the file's order. A key that is not
// text gets the fault notText. A duplicate key is also a fault, and not returned.
func (d *decoder) entries(node *yaml.Node, path, notText string) []entry {
	var all []entry
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		at := join(path, name.Value)
		switch first := seen[name.Value]; {
		case name.ShortTag() == "!!merge":
			d.faultAt(name.Line, at, "merge keys are not supported; repeat the settings")
		case name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str":
			d.faultAt(name.Line, join(path, cmp.Or(name.Value, "?")), notText)
		case first > 0:
			d.faultAt(name.Line, at, fmt.Sprintf("also set on line %d; keep one of the two", first))
		default:
			if value.Kind == yaml.AliasNode {
				value = value.Alias
			}
			seen[name.Value], d.lines[at] = name.Line, name.Line
			all = append(all, entry{name.Value, at, value})
		}
	}
	return all
}

// top reads the mapping at the top of a file into the struct v. It passes keys in
// others to their functions. If the file holds no mapping, hint is the fault.
func (d *decoder) top(root *yaml.Node, hint string, v reflect.Value, others map[string]func(entry)) {
	if root.Kind != yaml.MappingNode {
		d.faultAt(root.Line, "", hint)
		return
	}
	d.object(root, "", v, others)
}

// schema returns the fields of a struct type by their keys, and all keys, sorted.
func (d *decoder) schema(t reflect.Type, others map[string]func(entry)) (map[string]field, []string) {
	if s, ok := d.schemas[t]; ok {
		return s.fields, s.known
	}
	s := schema{fields: map[string]field{}, known: slices.Collect(maps.Keys(others))}
	for _, f := range fieldsOf(t) {
		s.fields[f.key] = f
		s.known = append(s.known, f.key)
	}
	slices.Sort(s.known)
	d.schemas[t] = s
	return s.fields, s.known
}

// object reads a mapping into the struct v. It passes keys in others to their
// functions instead.
func (d *decoder) object(node *yaml.Node, path string, v reflect.Value, others map[string]func(entry)) {
	fields, known := d.schema(v.Type(), others)
	seen, meant := map[string]bool{}, map[string]bool{}
	for _, e := range d.entries(node, path, "unknown key; remove it") {
		seen[e.key] = true
		f, isField := fields[e.key]
		if other := others[e.key]; other != nil {
			other(e)
		} else if isField {
			d.field(e, f, v.FieldByIndex(f.index))
		} else {
			meant[Nearest(e.key, known)] = true
			d.unknown(e, path, known)
		}
	}
	for key, f := range fields {
		switch at := join(path, key); {
		case seen[key]:
		case meant[key]: // probably a misspelled key, already reported
			d.faulty[at] = true
		case f.required != "":
			d.fault(at, "is missing; %s", f.required)
		}
	}
	if d.left >= 0 {
		d.checked(path, known, d.check(v.Addr().Interface()))
	}
}

// field reads the value of a key into v.
func (d *decoder) field(e entry, f field, v reflect.Value) {
	switch {
	case !isNull(e.value):
	case isCollection(v.Type()) && f.required == "": // all entries may be commented out
		return
	case !isCollection(v.Type()):
		d.noValue(e.path, cmp.Or(f.want, wanted(v.Type())))
		return
	}
	d.value(e.value, e.path, f.want, v)
	if f.nonempty && v.IsZero() && !d.faulty[e.path] {
		d.fault(e.path, "is empty; write %s, or remove the line", cmp.Or(f.want, wanted(v.Type())))
	}
	if f.path && v.String() != "" {
		if text := v.String(); filepath.IsAbs(text) {
			v.SetString(filepath.Clean(text))
		} else {
			v.SetString(filepath.Join(d.dir, text))
		}
	}
}

func (d *decoder) noValue(path, want string) {
	d.fault(path, "has no value; write %s, or remove the line", want)
}

// unknown reports an unknown key. For a group at the top of a file it reports the
// keys in it, because users group settings that are not grouped.
func (d *decoder) unknown(e entry, path string, known []string) {
	if Nearest(e.key, known) != "" || path != "" || e.value.Kind != yaml.MappingNode || len(e.value.Content) == 0 {
		d.fault(e.path, "unknown key; %s", remedy(e.key, known))
		return
	}
	for _, below := range d.entries(e.value, e.path, "unknown key; remove it") {
		text := remedy(below.key, known)
		if near := Nearest(below.key, known); near != "" {
			text = fmt.Sprintf("did you mean %s? Write it at the start of its line, not below %s", near, printable(e.key))
		}
		d.fault(below.path, "unknown key; %s", text)
	}
}
