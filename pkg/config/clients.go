package config

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

// Limits of a file of clients. The proxy receives it in one request and stores it in
// one transaction.
const (
	maxClientsFile = 16 << 20
	maxClients     = 20_000
)

// Client describes a client of the proxy in a file.
type Client struct {
	Name       string          `yaml:"-" json:"-" config:"key"`
	Disabled   bool            `yaml:"disabled,omitempty" json:"disabled,omitempty"`
	Recipients []string        `yaml:"recipients,omitempty" json:"recipients,omitempty" want:"age or SSH public keys"`
	Grants     []clients.Grant `yaml:"grants" json:"grants" want:"a list of grants, each with a dash in front, and names: and modes: in it" required:"say what the client may request, and set disabled: true to lock it out"` // at least one
}

// ClientChecks holds checks that higher packages implement.
type ClientChecks struct {
	Name func(string) error
	// Grant reports each fault on its own line, which begins with the field.
	Grant func(clients.Grant) error
}

// clientList is the document that ReadClients reads.
type clientList struct {
	Clients []Client `yaml:"clients" want:"the name of each client as a key, or {} for none" required:"write the clients below it, or clients: {} for none"`
}

// ReadClients reads a file of clients,
//
//	clients:
//	  web1:
//	    disabled: false                    # optional, as is recipients
//	    recipients: [age1…]
//	    grants:
//	      - names: [web1.example.com]      # lists of one may be written without brackets
//	        modes: [agent, gateway]
//	        networks: [10.0.0.0/8]         # optional, as is what follows
//	        key_types: [ec256]
//	        profiles: [shortlived, default]
//	        max_names: 5
//	        daily_quota: 10
//
// and returns the clients in the file's order. The error joins up to a hundred
// faults, each with the name of the file and the line.
func ReadClients(file string, in io.Reader, checks ClientChecks) ([]Client, error) {
	root, size, err := readDocument(in, file, maxClientsFile)
	if err != nil {
		return nil, err
	}
	if root == nil { // an empty file must not mean that there are no clients
		root = &yaml.Node{Kind: yaml.MappingNode}
	}
	d := newDecoder(file, size, checks.check)
	var list clientList
	d.top(root, "write the clients below a line clients:", reflect.ValueOf(&list).Elem(), nil)
	if err := d.err(); err != nil {
		return nil, err
	}
	return list.Clients, nil
}

// check implements the checks of a decoder, like [Checker.Check].
func (checks ClientChecks) check(value any) error {
	switch v := value.(type) {
	case *[]Client:
		if len(*v) > maxClients {
			return fmt.Errorf("%d clients are too many; the limit is %d", len(*v), maxClients)
		}
	case *Client:
		faults := []error{checks.Name(v.Name)}
		if len(v.Grants) == 0 {
			faults = append(faults, errors.New("grants: is an empty list; write one grant at least, with a dash in front"))
		}
		for i := range v.Recipients {
			v.Recipients[i] = strings.TrimSpace(v.Recipients[i]) // a block of text ends with a newline
		}
		if _, err := seal.ParseRecipients(v.Recipients); err != nil {
			for line := range strings.Lines(err.Error()) {
				faults = append(faults, errors.New("recipients: "+strings.TrimSpace(line)))
			}
		}
		return errors.Join(faults...)
	case *clients.Grant:
		for i, m := range v.Modes {
			v.Modes[i] = m.Canonical()
		}
		return errors.Join(checks.Grant(*v), checkLimits(*v))
	}
	return nil
}

// checkLimits refuses an empty list if a missing one would allow everything, because
// an empty list looks as if it allowed nothing.
func checkLimits(g clients.Grant) error {
	var faults []error
	if g.Networks != nil && len(g.Networks) == 0 {
		faults = append(faults, errors.New("networks: is an empty list; write networks such as 10.1.0.0/16, or remove the line to allow all"))
	}
	if g.KeyTypes != nil && len(g.KeyTypes) == 0 {
		faults = append(faults, errors.New("key_types: is an empty list; write types of keys such as ec256, or remove the line to allow all"))
	}
	if g.Profiles != nil && len(g.Profiles) == 0 {
		faults = append(faults, errors.New("profiles: is an empty list; write profiles such as shortlived, or remove the line to allow all"))
	}
	return errors.Join(faults...)
}

// ClientsFile is a document for ReadClients. It can be written as YAML or as JSON,
// which is also valid YAML.
type ClientsFile struct {
	Clients map[string]Client `yaml:"clients" json:"clients"`
}

// NewClientsFile returns a file with the clients. Their names must differ.
func NewClientsFile(all []Client) ClientsFile {
	file := ClientsFile{Clients: map[string]Client{}}
	for _, c := range all {
		c.Grants = append([]clients.Grant{}, c.Grants...)
		file.Clients[c.Name] = c
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
