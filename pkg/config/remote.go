package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cast"
)

const certificatesKey = "certificates"

// RemoteCertificate is one entry of the key certificates.
type RemoteCertificate struct {
	Names   []string // as written
	Mode    string   // agent, gateway; empty: what the proxy allows
	Out     string   // absolute; empty: in the state directory
	Hook    string   // for /bin/sh -c; empty: none
	KeyType string   // empty: ec256
}

// LoadRemoteCertificates reads the certificates that a remote keeps fresh. A
// relative out is below the file's folder. Every fault is reported.
func LoadRemoteCertificates(file string) ([]RemoteCertificate, error) {
	values, err := readYAML(file)
	if err != nil {
		return nil, err
	}
	value, ok := values[certificatesKey]
	if !ok || value == nil {
		return nil, nil
	}
	entries, ok := value.([]any)
	if !ok {
		return nil, fmt.Errorf("%s in %s: write a list, each entry with names", certificatesKey, file)
	}
	base, err := filepath.Abs(filepath.Dir(file))
	if err != nil {
		return nil, err
	}
	var all []RemoteCertificate
	var faults []error
	for i, entry := range entries {
		r, err := parseRemoteCertificate(entry, base)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s in %s, entry %d: %w", certificatesKey, file, i+1, err))
			continue
		}
		all = append(all, r)
	}
	return all, errors.Join(faults...)
}

func parseRemoteCertificate(entry any, base string) (r RemoteCertificate, err error) {
	fields, err := cast.ToStringMapE(entry)
	if err != nil {
		return r, errors.New("write names, and mode, out, hook, key-type if need be")
	}
	var faults []error
	for key, value := range fields {
		text, list, err := plain(value)
		if err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", key, err))
			continue
		}
		switch key {
		case "names":
			for _, item := range list {
				r.Names = append(r.Names, splitNames(item)...)
			}
		case "mode":
			r.Mode = text
		case "out":
			r.Out = text
		case "hook":
			r.Hook = text
		case "key-type":
			r.KeyType = text
		default:
			faults = append(faults, fmt.Errorf("%s: unknown key; write names, mode, out, hook or key-type", key))
		}
	}
	if len(r.Names) == 0 {
		faults = append(faults, errors.New("names: missing; write at least one DNS name"))
	}
	if r.Out != "" && !filepath.IsAbs(r.Out) {
		r.Out = filepath.Join(base, r.Out)
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return r, errors.Join(faults...)
}

func splitNames(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}
