package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/acmeproxy/acmeproxy/pkg/cert"
)

// CertificateSet is an entry of Domains: the names of one certificate.
type CertificateSet struct {
	Names  cert.Names
	Name   string // after which its folder is called: the one given, or else the first of the names as given
	Chosen bool   // whether Name was given: lb=www.example.com,api.example.com
}

// CertificateSets returns the sets of Domains. A name may be in several sets, but a
// duplicate set, or a duplicate given name, is a fault.
func (s *Serve) CertificateSets() ([]CertificateSet, error) {
	var sets []CertificateSet
	var faults []error
	for _, entry := range s.Domains {
		set, err := parseSet(entry)
		switch {
		case err != nil:
			faults = append(faults, fmt.Errorf("domain: %w", err))
		case slices.ContainsFunc(sets, func(o CertificateSet) bool { return set.Names.Equal(o.Names) }):
			faults = append(faults, fmt.Errorf("domain: %s is set twice; remove one", set.Names.Key()))
		default:
			sets = append(sets, set)
		}
	}
	return sets, errors.Join(faults...)
}

func parseSet(entry string) (CertificateSet, error) {
	name, list, chosen := strings.Cut(entry, "=")
	if !chosen {
		name, list = "", entry
	}
	names, err := parseNames(list)
	if err != nil {
		return CertificateSet{}, err
	}
	if chosen {
		name = strings.TrimSpace(name)
		if err := cert.CheckStoredName(name); err != nil {
			return CertificateSet{}, fmt.Errorf("the name before %q %w", "=", err)
		}
		return CertificateSet{names, name, true}, nil
	}
	first, _, _ := strings.Cut(list, ",")
	name, err = cert.ParseName(strings.TrimSpace(first))
	return CertificateSet{names, cert.StoredName(name), false}, err
}
