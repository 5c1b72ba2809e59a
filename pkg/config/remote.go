package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
	"github.com/acmeproxy/acmeproxy/pkg/cert/certfile"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/localfile"
)

// CertificatesKey is the key of RemoteCertificates in a remote's file.
const CertificatesKey = "certificates"

// RemoteCertificate describes a certificate that a remote maintains on disk:
//
//	certificates:
//	  - names: [web1.example.com, www.example.com]   # or joined by commas
//	    name: web1                                    # identifies it, if its names change
//	    mode: agent
//	    out: /etc/ssl/web1                            # or relative to this file's folder
//	    hook: systemctl reload nginx
//	    key-type: ec256
//	    profile: shortlived                           # one of the CA's
//	    format: [haproxy, pkcs12]                     # in addition to the PEM files
//	    pkcs12-password-file: p12-password            # or relative, too
//	    owner: www-data:ssl-cert
//	    key-mode: "0640"
//
// Only names is required.
type RemoteCertificate struct {
	Name    string          `yaml:"name" want:"a name that identifies the certificate, such as web1" config:"nonempty"`              // stored name; if empty, First is the default
	Names   cert.Names      `yaml:"names" want:"a DNS name" required:"write the names of the certificate, such as web1.example.com"` // canonical
	Mode    clients.Mode    `yaml:"mode" want:"agent or gateway" config:"nonempty"`                                                  // if empty, the client's default
	Out     string          `yaml:"out" want:"the folder for the files, such as /etc/ssl/web1" config:"path,nonempty"`               // absolute; if empty, the remote's default
	Hook    string          `yaml:"hook"`                                                                                            // shell command to run after each change; may be empty
	KeyType string          `yaml:"key-type" config:"nonempty"`                                                                      // see cert.KeyTypes; if empty, the default
	Profile string          `yaml:"profile"`                                                                                         // of the CA; if empty, its default
	Files   certfile.Layout `yaml:",inline"`
	First   string          // the first of the names as written, in canonical form
}

// RemoteCertificates is the list of certificates in a file. Each needs its own folder.
type RemoteCertificates []RemoteCertificate

// CertificateKeys returns the keys of a RemoteCertificate, sorted.
func CertificateKeys() []string { return keysOf(reflect.TypeFor[RemoteCertificate]()) }

// Check implements [Checker]. It makes the names and the mode canonical.
func (c *RemoteCertificate) Check() error {
	faults := []error{c.Files.Validate()}
	names, err := parseNames(c.Names...)
	if err != nil {
		faults = append(faults, fmt.Errorf("names: %w", err))
	} else if c.First == "" {
		written, _, _ := strings.Cut(c.Names[0], ",")
		c.First, _ = cert.ParseName(strings.TrimSpace(written)) // parseNames checked it
	}
	if c.Name != "" {
		if err := cert.CheckStoredName(c.Name); err != nil {
			faults = append(faults, fmt.Errorf("name: %w", err))
		}
	}
	c.Names, c.Mode = names, c.Mode.Canonical()
	if c.Mode != "" && !c.Mode.IsNative() {
		known := clients.JoinModes(clients.NativeModes(), " or ")
		faults = append(faults, fmt.Errorf("mode: unknown mode %q; write %s", c.Mode, known))
	}
	if c.KeyType != "" {
		keyType, err := cert.ParseKeyType(c.KeyType)
		if err != nil {
			faults = append(faults, fmt.Errorf("key-type: %w", err))
		}
		c.KeyType = string(keyType)
	}
	return errors.Join(faults...)
}

// Repetition is an entry that equals an earlier one. Earlier releases accepted it.
type Repetition struct{ Index, Earlier int }

// Unique returns the entries without the repetitions, and those.
func (all RemoteCertificates) Unique() (unique RemoteCertificates, repeated []Repetition) {
	for i, c := range all {
		earlier := slices.IndexFunc(all[:i], c.isSame)
		if earlier < 0 {
			unique = append(unique, c)
			continue
		}
		repeated = append(repeated, Repetition{i, earlier})
	}
	return unique, repeated
}

// isSame reports whether two entries have the same names and settings, in any order of
// the names.
func (c RemoteCertificate) isSame(other RemoteCertificate) bool {
	c.First = other.First
	return len(c.Names) > 0 && reflect.DeepEqual(c, other)
}

// Check implements [Checker]. It returns an error for each entry that has the stored
// name, the folder, or names and mode of an earlier one, unless it is a repetition.
func (all RemoteCertificates) Check() error {
	_, repeated := all.Unique()
	var faults []error
	first := map[string]int{}
	taken := func(i int, key, value string) (other int, taken bool) {
		if value == "" {
			return 0, false
		}
		if other, taken = first[key+"\n"+value]; !taken {
			first[key+"\n"+value] = i
		}
		return other, taken
	}
	for i, c := range all {
		if slices.ContainsFunc(repeated, func(r Repetition) bool { return r.Index == i }) {
			continue
		}
		if other, taken := taken(i, "name", c.Name); taken {
			faults = append(faults, fmt.Errorf("[%d].name: %s[%d] has it already; write another", i, CertificatesKey, other))
		}
		if len(c.Names) > 0 {
			if other, taken := taken(i, "names", c.Names.Key()+"\n"+string(c.Mode)); taken && c.Name == all[other].Name {
				faults = append(faults, fmt.Errorf("[%d].names: %s[%d] has the same names; remove one of the two, or give each a name", i, CertificatesKey, other))
			}
		}
		if c.Out == "" {
			continue
		}
		if other, taken := taken(i, "out", localfile.Resolve(c.Out)); taken {
			faults = append(faults, fmt.Errorf("[%d].out: %s[%d] is written there too; each needs a folder of its own", i, CertificatesKey, other))
		}
	}
	return errors.Join(faults...)
}

// parseNames reads the names of one certificate. Commas may join several.
func parseNames(entries ...string) (cert.Names, error) {
	var all []string
	if len(entries) > cert.MaxNames { // with aliases, a small file can hold many
		return nil, fmt.Errorf("%d names are too many for one certificate; the limit is %d", len(entries), cert.MaxNames)
	}
	for _, entry := range entries {
		for part := range strings.SplitSeq(entry, ",") {
			part = strings.TrimSpace(part)
			if part == "" {
				return nil, fmt.Errorf("%q has an empty name; join names by commas alone, such as a.example.com,b.example.com", entry)
			}
			all = append(all, part)
		}
	}
	return cert.ParseNames(all...)
}
