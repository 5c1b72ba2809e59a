package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"go.yaml.in/yaml/v3"
)

// maxFile limits the size of a configuration file, so that a wrong path does not
// exhaust the memory.
const maxFile = 1 << 20

// readDocument reads a YAML file of at most limit bytes. It returns its only
// document, or nil if the file is empty.
func readDocument(in io.Reader, file string, limit int64) (root *yaml.Node, size int, err error) {
	data, err := io.ReadAll(io.LimitReader(in, limit+1))
	if err != nil {
		var path *fs.PathError
		if errors.As(err, &path) { // it has the operation and the path
			return nil, 0, path
		}
		return nil, 0, fmt.Errorf("read %s: %w", file, err)
	}
	if int64(len(data)) > limit {
		return nil, 0, fmt.Errorf("%s: larger than %d MiB; is it the right file?", file, limit>>20)
	}
	root, err = parseDocument(data)
	var wrong *syntaxFault
	if errors.As(err, &wrong) {
		return nil, 0, fmt.Errorf("%s: %w", wrong.place(file), err)
	}
	if err != nil {
		return nil, 0, fmt.Errorf("%s: %w", file, err)
	}
	return root, len(data), nil
}

func parseDocument(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var root yaml.Node
	switch err := decoder.Decode(&root); {
	case errors.Is(err, io.EOF): // only comments
		return nil, nil
	case err != nil:
		return nil, syntaxError(err, data)
	}
	switch err := decoder.Decode(new(yaml.Node)); {
	case err == nil:
		return nil, errors.New("holds several YAML documents; keep one and remove the --- between them")
	case !errors.Is(err, io.EOF):
		return nil, syntaxError(err, data)
	}
	if top := root.Content[0]; !isNull(top) {
		return top, nil
	}
	return nil, nil
}

func isNull(node *yaml.Node) bool {
	return node.Kind == yaml.ScalarNode && node.ShortTag() == "!!null"
}

// typeName describes a node's YAML type for messages.
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

// printable returns a key in one line, quoted if necessary.
func printable(key string) string {
	if q := fmt.Sprintf("%q", key); q[1:len(q)-1] != key {
		return q
	}
	return key
}
