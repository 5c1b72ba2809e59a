package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"go.yaml.in/yaml/v3"
)

// maxFile bounds a configuration file: a wrong path must not fill the memory.
const maxFile = 1 << 20

// document is a YAML file whose top level is a mapping. It is kept as nodes, so
// that each fault can be reported with its line.
type document struct {
	file    string
	entries []entry
	faults  []error // of the keys themselves: twice, or no text
	notText string  // what to say of a key that is no text; empty: remove it
}

// entry is one key of a mapping. An alias's value is what it stands for.
type entry struct {
	key   string
	line  int
	value *yaml.Node
}

func readDocument(file string) (*document, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("%s: larger than 1 MiB; is it the right file?", file)
	}
	return parseDocument(file, data)
}

func parseDocument(file string, data []byte) (*document, error) {
	return parseMapping(file, data, "write settings as lines such as hostname: acmeproxy.example.com")
}

// parseMapping reads a file whose top level is a mapping, or empty; hint says
// what to write if it is something else.
func parseMapping(file string, data []byte, hint string) (*document, error) {
	doc := &document{file: file}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF): // nothing but comments
		return doc, nil
	case err != nil:
		return nil, doc.syntax(err)
	}
	switch err := decoder.Decode(new(yaml.Node)); {
	case err == nil:
		return nil, fmt.Errorf("%s: holds several YAML documents; keep one and remove the --- between them", file)
	case !errors.Is(err, io.EOF):
		return nil, doc.syntax(err)
	}
	top := root.Content[0]
	if isNull(top) {
		return doc, nil
	}
	if top.Kind != yaml.MappingNode {
		return nil, doc.fault(top.Line, "", "%s", hint)
	}
	doc.entries, doc.faults = doc.mapping(top, "")
	return doc, nil
}

// syntax makes one line of the parser's error.
func (d *document) syntax(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	return fmt.Errorf("%s: not YAML: %s", d.file, strings.Join(strings.Fields(text), " "))
}

// fault is an error at a line of the file; an empty key is the whole file.
func (d *document) fault(line int, key, format string, args ...any) error {
	where := fmt.Sprintf("%s:%d: ", d.file, line)
	if key != "" {
		where += printable(key) + ": "
	}
	return errors.New(where + fmt.Sprintf(format, args...))
}

// mapping lists the keys of a mapping node, in the file's order. A key that is
// not text or comes twice is a fault; prefix is the path of the mapping.
func (d *document) mapping(node *yaml.Node, prefix string) (entries []entry, faults []error) {
	first := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		key := prefix + name.Value
		if name.Kind != yaml.ScalarNode || name.ShortTag() != "!!str" {
			if name.Value == "" {
				key = prefix + "?"
			}
			text := d.notText
			if text == "" {
				text = "unknown key; remove it"
			}
			faults = append(faults, d.fault(name.Line, key, "%s", text))
			continue
		}
		if line, twice := first[name.Value]; twice {
			faults = append(faults, d.fault(name.Line, key, "also set on line %d; keep one of the two", line))
			continue
		}
		first[name.Value] = name.Line
		if value.Kind == yaml.AliasNode {
			value = value.Alias
		}
		entries = append(entries, entry{name.Value, name.Line, value})
	}
	return entries, faults
}

// settings are the values of the flags' keys that are well written: a string,
// or a []string for a list flag. Keys in extra are left out.
func (d *document) settings(fs *pflag.FlagSet, extra []string) (map[string]any, error) {
	known := slices.Clone(extra)
	fs.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notSettings, f.Name) {
			known = append(known, f.Name)
		}
	})
	slices.Sort(known)

	values := map[string]any{}
	faults := slices.Clone(d.faults)
	for _, e := range d.entries {
		switch {
		case slices.Contains(extra, e.key):
		case !slices.Contains(known, e.key):
			faults = append(faults, d.unknown(e, known)...)
		default:
			value, err := d.value(e, kindOf(fs.Lookup(e.key)))
			if err != nil {
				faults = append(faults, err)
				continue
			}
			values[e.key] = value
		}
	}
	return values, errors.Join(faults...)
}

// unknown reports a key that is no setting. A group is reported by the keys in
// it, since people group settings that are not grouped here.
func (d *document) unknown(e entry, known []string) []error {
	if e.value.Kind != yaml.MappingNode || len(e.value.Content) == 0 {
		return []error{d.fault(e.line, e.key, "unknown key; %s", remedy(e.key, known))}
	}
	below, faults := d.mapping(e.value, e.key+".")
	for _, b := range below {
		text := remedy(b.key, known)
		if near := Nearest(b.key, known); near != "" {
			text = fmt.Sprintf("did you mean %s? Write it at the start of its line, not below %s", near, printable(e.key))
		}
		faults = append(faults, d.fault(b.line, e.key+"."+b.key, "unknown key; %s", text))
	}
	return faults
}

// value reads a setting. The value itself is in no error: it may be a secret.
func (d *document) value(e entry, k kind) (any, error) {
	if isNull(e.value) {
		return nil, d.fault(e.line, e.key, "has no value; write %s, or remove the line", k.want)
	}
	if !k.list || e.value.Kind != yaml.SequenceNode {
		text, err := d.scalar(e.value, e.line, e.key, k)
		if k.list {
			return []string{text}, err
		}
		return text, err
	}
	entries := []string{}
	var faults []error
	for i, node := range e.value.Content {
		line := node.Line
		if node.Kind == yaml.AliasNode {
			node = node.Alias
		}
		text, err := d.scalar(node, line, fmt.Sprintf("%s[%d]", e.key, i), k)
		if err != nil {
			faults = append(faults, err)
		}
		entries = append(entries, text)
	}
	return entries, errors.Join(faults...)
}

// scalar is a node's text if it is of the wanted kind.
func (d *document) scalar(node *yaml.Node, line int, key string, k kind) (string, error) {
	if node.Kind == yaml.ScalarNode && slices.Contains(k.tags, node.ShortTag()) {
		return node.Value, nil
	}
	hint := ""
	if node.Kind == yaml.ScalarNode {
		hint = k.quotes(node.ShortTag())
	}
	return "", d.fault(line, key, "this is %s; write %s%s", typeName(node), k.want, hint)
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// typeName is a node's YAML type for people.
func typeName(node *yaml.Node) string {
	if node.Kind == yaml.MappingNode {
		return "a group of keys"
	}
	if node.Kind == yaml.SequenceNode {
		return "a list"
	}
	switch node.ShortTag() {
	case "!!str":
		return "text"
	case "!!bool":
		return "true or false"
	case "!!int", "!!float":
		return "a number"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "empty"
	}
	return "of another type"
}

// printable keeps a key on one line, whatever it holds.
func printable(key string) string {
	if q := fmt.Sprintf("%q", key); q[1:len(q)-1] != key {
		return q
	}
	return key
}
