package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
)

// CertificatesKey is the file's key that LoadRemoteCertificates reads. It is no
// flag: pass it to WithKeys when Load reads the same file.
const CertificatesKey = "certificates"

// RemoteCertificate is a certificate that a remote keeps on disk.
type RemoteCertificate struct {
	Names   []string // canonical
	Mode    string   // "agent" or "gateway"; empty: the client's default
	Out     string   // the folder for the files, absolute; empty: the remote's default
	Hook    string   // shell command to run after each change; empty: none
	KeyType string   // see cert.KeyTypes; empty: the default
	Profile string   // of the CA; empty: its default
	Files   certfile.Layout
}

// LoadRemoteCertificates reads the list below certificates: in a YAML file,
//
//	certificates:
//	  - names: [web1.example.com, www.example.com]   # or joined by commas
//	    mode: agent
//	    out: /etc/ssl/web1                            # or relative to this file's folder
//	    hook: systemctl reload nginx
//	    key-type: ec256
//	    profile: shortlived                           # one of the CA's
//	    format: [haproxy, pkcs12]                     # besides the PEM files
//	    pkcs12-password-file: p12-password            # or relative, too
//	    owner: www-data:ssl-cert
//	    key-mode: "0640"
//
// of which only names must be there. Other top-level keys are
// Load's business. The error joins every fault.
func LoadRemoteCertificates(file string) ([]RemoteCertificate, error) {
	doc, err := readDocument(file)
	if err != nil {
		return nil, err
	}
	dir, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, fmt.Errorf("find the folder of %s: %w", file, err)
	}
	return doc.certificates(dir)
}

func (d *document) certificates(dir string) ([]RemoteCertificate, error) {
	i := slices.IndexFunc(d.entries, func(e entry) bool { return e.key == CertificatesKey })
	if i < 0 || isNull(d.entries[i].value) { // perhaps every entry is commented out
		return nil, errors.Join(d.faults...)
	}
	list := d.entries[i].value
	if list.Kind != yaml.SequenceNode {
		return nil, d.fault(d.entries[i].line, CertificatesKey, "this is %s; write a list, each entry with names: and perhaps out:", typeName(list))
	}
	var certs []RemoteCertificate
	faults := slices.Clone(d.faults)
	owner := map[string]int{}
	for i, node := range list.Content {
		path := fmt.Sprintf("%s[%d]", CertificatesKey, i)
		c, err := d.certificate(node, path, dir)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		if first, taken := owner[c.Out]; taken && c.Out != "" {
			faults = append(faults, d.fault(node.Line, path+".out", CertificatesKey+"[%d] is written there too; each needs a folder of its own", first))
			continue
		}
		owner[c.Out] = i
		certs = append(certs, c)
	}
	if len(faults) > 0 {
		return nil, errors.Join(faults...)
	}
	return certs, nil
}

// certificateKeys are what an entry of the list may hold.
var certificateKeys = []string{"format", "hook", "key-mode", "key-type", "mode", "names", "out", "owner", "pkcs12-password-file", "profile"} //nolint:gochecknoglobals // a constant list

// CertificateKeys are the keys of an entry below CertificatesKey, sorted.
func CertificateKeys() []string { return slices.Clone(certificateKeys) }

func (d *document) certificate(node *yaml.Node, path, dir string) (RemoteCertificate, error) {
	line := node.Line
	if node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if node.Kind != yaml.MappingNode {
		return RemoteCertificate{}, d.fault(line, path, "this is %s; write keys such as names: and out:, each on its line", typeName(node))
	}
	entries, faults := d.mapping(node, path+".")
	c := RemoteCertificate{}
	for _, e := range entries {
		if err := d.certificateEntry(&c, e, path, dir); err != nil {
			faults = append(faults, err)
		}
	}
	if err := c.Files.Validate(); err != nil {
		for fault := range strings.SplitSeq(err.Error(), "\n") {
			faults = append(faults, d.fault(line, path, "%s", fault))
		}
	}
	if !slices.ContainsFunc(entries, func(e entry) bool { return e.key == "names" }) {
		faults = append(faults, d.fault(line, path+".names", "is missing; write the names of the certificate, such as web1.example.com"))
	}
	return c, errors.Join(faults...)
}

// certificateEntry sets the field that e is about.
func (d *document) certificateEntry(c *RemoteCertificate, e entry, path, dir string) error {
	key := path + "." + e.key
	if !slices.Contains(certificateKeys, e.key) {
		return d.fault(e.line, key, "unknown key; %s", remedy(e.key, certificateKeys))
	}
	if e.key == "names" {
		names, err := d.names(e, key)
		c.Names = names
		return err
	}
	if e.key == "format" {
		formats, err := d.value(entry{key: key, line: e.line, value: e.value}, kind{tags: textKind.tags, list: true, want: "haproxy or pkcs12"})
		if err == nil {
			c.Files.Formats = formats.([]string)
		}
		return err
	}
	text, err := d.scalar(e.value, e.line, key, textKind)
	if err != nil {
		return err
	}
	switch e.key {
	case "mode":
		if text != "agent" && text != "gateway" {
			return d.fault(e.line, key, "unknown mode %q; write agent or gateway", text)
		}
		c.Mode = text
	case "out":
		if text == "" {
			return d.fault(e.line, key, "is empty; write the folder for the files, such as /etc/ssl/web1, or remove the line")
		}
		if !filepath.IsAbs(text) {
			text = filepath.Join(dir, text)
		}
		c.Out = filepath.Clean(text)
	case "profile":
		c.Profile = text
	case "hook":
		c.Hook = text
	case "owner":
		c.Files.Owner = text
	case "key-mode":
		c.Files.KeyMode = text
	case "pkcs12-password-file":
		if text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(dir, text)
		}
		c.Files.PKCS12PasswordFile = text
	case "key-type":
		keyType, err := cert.ParseKeyType(text)
		if err != nil {
			return d.fault(e.line, key, "%v", err)
		}
		c.KeyType = string(keyType)
	}
	return nil
}

// names reads a list of names, or one string that joins them by commas.
func (d *document) names(e entry, key string) (cert.Names, error) {
	if e.value.Kind != yaml.SequenceNode {
		text, err := d.scalar(e.value, e.line, key, textKind)
		if err != nil {
			return nil, err
		}
		names, err := parseNames(text)
		if err != nil {
			return nil, d.fault(e.line, key, "%v", err)
		}
		return names, nil
	}
	// Aliases could otherwise multiply a small file into much work.
	if n := len(e.value.Content); n > cert.MaxNames {
		return nil, d.fault(e.line, key, "%d names are too many for one certificate; the limit is %d", n, cert.MaxNames)
	}
	value, err := d.value(entry{key: key, line: e.line, value: e.value}, kind{tags: textKind.tags, list: true, want: "a DNS name"})
	if err != nil {
		return nil, err
	}
	names, err := cert.ParseNames(value.([]string)...)
	if err != nil {
		return nil, d.fault(e.line, key, "%v", err)
	}
	return names, nil
}
