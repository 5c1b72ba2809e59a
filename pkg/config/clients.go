package config

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Bounds of a file of clients. All of it goes to the proxy in one request, and
// into its database in one transaction.
const (
	maxClientsFile = 16 << 20
	maxClients     = 20_000
	maxAliased     = 2 << 20 // that aliases may make of the file, besides what it is
	maxFaults      = 100     // that are reported
)

// Client is a client of the proxy, as a file says that it is to be.
type Client struct {
	Name       string
	Disabled   bool
	Recipients []string
	Grants     []clients.Grant // one, at least
}

// ClientChecks are rules that packages above this one know.
type ClientChecks struct {
	Name func(string) error
	// Grant reports every fault on a line of its own that begins with the field.
	Grant func(clients.Grant) error
}

// ReadClients reads a file of clients,
//
//	clients:
//	  web1:
//	    disabled: false                    # may be left out, as what follows
//	    recipients: [age1…]
//	    grants:
//	      - names: [web1.example.com]      # lists of one may be written without brackets
//	        modes: [agent, gateway]
//	        networks: [10.0.0.0/8]         # may be left out, as what follows
//	        key_types: [ec256]
//	        daily_quota: 10
//
// in the file's order. The name of the file is for errors, of which each says
// where it is, and which are all reported, up to a hundred of them.
func ReadClients(file string, in io.Reader, checks ClientChecks) ([]Client, error) {
	data, err := io.ReadAll(io.LimitReader(in, maxClientsFile+1))
	if err != nil {
		return nil, fmt.Errorf("read the clients: %w", err)
	}
	if len(data) > maxClientsFile {
		return nil, fmt.Errorf("%s: larger than %d MiB; is it the right file?", file, maxClientsFile>>20)
	}
	doc, err := parseMapping(file, data, "write the clients below a line clients:")
	if err != nil {
		return nil, err
	}
	r := &clientReader{document: doc, checks: checks, left: len(data) + maxAliased}
	all, faults := r.all()
	if len(faults) > 0 {
		return nil, r.some(errors.Join(faults...))
	}
	return all, nil
}

// some keeps the first of very many faults.
func (r *clientReader) some(all error) error {
	lines := strings.Split(all.Error(), "\n")
	if n := len(lines); n > maxFaults {
		lines = append(lines[:maxFaults], fmt.Sprintf("%s: and %d faults more", r.file, n-maxFaults))
	}
	return errors.New(strings.Join(lines, "\n"))
}

// The keys of a client, and of a grant: those of clients show --json.
var (
	clientKeys = []string{"disabled", "grants", "recipients"}                       //nolint:gochecknoglobals // a constant list
	grantKeys  = []string{"daily_quota", "key_types", "modes", "names", "networks"} //nolint:gochecknoglobals // a constant list
)

type clientReader struct {
	*document
	checks ClientChecks
	// left is how much may still be read, in nodes and bytes. Only aliases, which
	// could make very much of a small file, use it up.
	left int
}

func (r *clientReader) all() ([]Client, []error) {
	faults := slices.Clone(r.faults)
	var list *entry
	for _, e := range r.entries {
		if e.key != "clients" {
			faults = append(faults, r.fault(e.line, e.key, "unknown key; %s", remedy(e.key, []string{"clients"})))
			continue
		}
		list = &e
	}
	switch {
	case list == nil:
		return nil, append(faults, fmt.Errorf("%s: clients: is missing; write the clients below it, or clients: {} if there shall be none", r.file))
	case list.value.Kind != yaml.MappingNode:
		return nil, append(faults, r.fault(list.line, "clients", "this is %s; write the name of each client as a key, or {} if there shall be none", typeName(list.value)))
	case len(list.value.Content)/2 > maxClients:
		return nil, append(faults, r.fault(list.line, "clients", "%d clients are too many; the limit is %d", len(list.value.Content)/2, maxClients))
	}
	r.notText = "a client's name must be text; write it in quotes"
	entries, more := r.mapping(list.value, "clients.")
	r.notText = ""
	faults = append(faults, more...)
	all := make([]Client, 0, len(entries))
	for _, e := range entries {
		c, more := r.client(e)
		faults = append(faults, more...)
		if r.left < 0 {
			return nil, append(faults, r.fault(e.line, "clients."+e.key, "aliases make too much of this file; write less of them"))
		}
		all = append(all, c)
	}
	return all, faults
}

func (r *clientReader) client(e entry) (Client, []error) {
	path := "clients." + e.key
	c := Client{Name: e.key}
	var faults []error
	if err := r.checks.Name(e.key); err != nil {
		faults = append(faults, r.fault(e.line, path, "%v", err))
	}
	if e.value.Kind != yaml.MappingNode {
		return c, append(faults, r.fault(e.line, path, "this is %s; write keys such as grants: below it", typeName(e.value)))
	}
	r.left -= len(e.value.Content)
	entries, more := r.mapping(e.value, path+".")
	faults = append(faults, more...)
	grants := false
	for _, field := range entries {
		key := path + "." + field.key
		switch field.key {
		case "disabled":
			text, err := r.scalar(field.value, field.line, key, kindOfType("bool"))
			c.Disabled, faults = text == "true" || text == "True" || text == "TRUE", add(faults, err)
		case "recipients":
			var err error
			c.Recipients, err = r.recipients(field, key)
			faults = add(faults, err)
		case "grants":
			grants = true
			c.Grants, more = r.grants(field, key)
			faults = append(faults, more...)
		default:
			faults = append(faults, r.fault(field.line, key, "unknown key; %s", remedy(field.key, clientKeys)))
		}
	}
	if !grants {
		faults = append(faults, r.fault(e.line, path+".grants", "is missing; say what the client may ask for, and disabled: true if it shall be locked out"))
	}
	return c, faults
}

func add(faults []error, err error) []error {
	if err != nil {
		faults = append(faults, err)
	}
	return faults
}

// texts reads a list of texts, or a single one.
func (r *clientReader) texts(e entry, key, want string) ([]string, error) {
	if r.left -= len(e.value.Content); r.left < 0 {
		return nil, nil // all says so
	}
	v, err := r.value(entry{key: key, line: e.line, value: e.value}, kind{tags: textKind.tags, list: true, want: want})
	if err != nil {
		return nil, err
	}
	list := v.([]string)
	for _, text := range list {
		r.left -= len(text)
	}
	return list, nil
}

func (r *clientReader) recipients(e entry, key string) ([]string, error) {
	list, err := r.texts(e, key, "age or SSH public keys")
	if err != nil {
		return nil, err
	}
	for i := range list {
		list[i] = strings.TrimSpace(list[i]) // of a block of text
	}
	if _, err := seal.ParseRecipients(list); err != nil {
		return nil, r.faultsIn(err, func(fault string) error { return r.fault(e.line, key, "%s", fault) })
	}
	return list, nil
}

// faultsIn makes one fault of each line.
func (r *clientReader) faultsIn(err error, fault func(string) error) error {
	var faults []error
	for line := range strings.Lines(err.Error()) {
		faults = append(faults, fault(strings.TrimSpace(line)))
	}
	return errors.Join(faults...)
}

func (r *clientReader) grants(e entry, key string) ([]clients.Grant, []error) {
	if e.value.Kind != yaml.SequenceNode || len(e.value.Content) == 0 {
		return nil, []error{r.fault(e.line, key, "write a list of grants, each with a dash in front, and names: and modes: in it")}
	}
	var grants []clients.Grant
	var faults []error
	for i, node := range e.value.Content {
		if r.left--; r.left < 0 {
			break
		}
		g, more := r.grant(node, fmt.Sprintf("%s[%d]", key, i))
		grants, faults = append(grants, g), append(faults, more...)
	}
	return grants, faults
}

func (r *clientReader) grant(node *yaml.Node, path string) (clients.Grant, []error) {
	line := node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return clients.Grant{}, []error{r.fault(line, path, "this is %s; write keys such as names: and modes:", typeName(node))}
	}
	r.left -= len(node.Content)
	entries, faults := r.mapping(node, path+".")
	var g clients.Grant
	lines := map[string]int{}
	for _, e := range entries {
		lines[e.key] = e.line
		if err := r.grantEntry(&g, e, path+"."+e.key); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 || r.left < 0 {
		return g, faults // the rest of it would only repeat them
	}
	if err := r.checks.Grant(g); err != nil {
		faults = append(faults, r.faultsIn(err, func(fault string) error {
			field, text, _ := strings.Cut(fault, ": ")
			at, written := lines[field]
			if !written {
				at = line
			}
			return r.fault(at, path+"."+field, "%s", text)
		}))
	}
	return g, faults
}

// grantEntry sets the field that e is about.
func (r *clientReader) grantEntry(g *clients.Grant, e entry, key string) (err error) {
	switch e.key {
	case "names":
		g.Names, err = r.texts(e, key, "names such as web1.example.com")
	case "modes":
		var modes []string
		modes, err = r.texts(e, key, "agent, gateway or both")
		for _, m := range modes {
			g.Modes = append(g.Modes, clients.Mode(m))
		}
	case "networks":
		g.Networks, err = r.limits(e, key, "networks such as 10.1.0.0/16")
	case "key_types":
		g.KeyTypes, err = r.limits(e, key, "types of keys such as ec256")
	case "daily_quota":
		g.DailyQuota, err = r.number(e, key)
	default:
		err = r.fault(e.line, key, "unknown key; %s", remedy(e.key, grantKeys))
	}
	return err
}

// limits reads a list that must not be empty: without it, everything is
// allowed, which is not what an empty one looks like.
func (r *clientReader) limits(e entry, key, want string) ([]string, error) {
	list, err := r.texts(e, key, want)
	if err == nil && len(list) == 0 && r.left >= 0 {
		err = r.fault(e.line, key, "is an empty list; write %s, or remove the line to allow all", want)
	}
	return list, err
}

func (r *clientReader) number(e entry, key string) (int, error) {
	text, err := r.scalar(e.value, e.line, key, kindOfType("int"))
	if err != nil {
		return 0, err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, r.fault(e.line, key, "write a whole number, in decimal digits only")
	}
	return n, nil
}

// ClientsFile is what ReadClients reads, to be written as YAML or, which is YAML
// as well, as JSON.
type ClientsFile struct {
	Clients map[string]fileClient `yaml:"clients" json:"clients"`
}

type fileClient struct {
	Disabled   bool            `yaml:"disabled,omitempty" json:"disabled,omitempty"`
	Recipients []string        `yaml:"recipients,omitempty" json:"recipients,omitempty"`
	Grants     []clients.Grant `yaml:"grants" json:"grants"`
}

// NewClientsFile holds the clients, whose names must differ.
func NewClientsFile(all []Client) ClientsFile {
	file := ClientsFile{Clients: map[string]fileClient{}}
	for _, c := range all {
		out := fileClient{Disabled: c.Disabled, Recipients: c.Recipients, Grants: append([]clients.Grant{}, c.Grants...)}
		file.Clients[c.Name] = out
	}
	return file
}

// WriteYAML writes the file, ordered by name.
func (f ClientsFile) WriteYAML(w io.Writer) error {
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(f); err != nil {
		return fmt.Errorf("write the clients: %w", err)
	}
	return enc.Close()
}
