package proxy

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// caRoots returns the roots to trust for the CA's API: the system's, those in the
// files, and those in the files that LEGO_CA_CERTIFICATES lists, separated as in PATH.
// nil means the system's. The error has every file that cannot be used.
func caRoots(files []string, getenv func(string) string) (*x509.CertPool, error) {
	const key, variable = "ca-certificates", "LEGO_CA_CERTIFICATES"
	listed := filepath.SplitList(getenv(variable))
	if len(files)+len(listed) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	var faults []error
	add := func(source, file string) {
		if err := addRoots(pool, file); err != nil {
			faults = append(faults, fmt.Errorf("%s: %w", source, err))
		}
	}
	for _, file := range files {
		add(key, file)
	}
	for _, file := range listed {
		add(variable, file)
	}
	return pool, errors.Join(faults...)
}

// addRoots adds the certificates of a PEM file.
func addRoots(pool *x509.CertPool, file string) error {
	pem, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w; make it readable for the user that runs the proxy", err)
	case err != nil:
		return fmt.Errorf("%w; set it to the PEM file with the root of the CA's API", err)
	case !pool.AppendCertsFromPEM(pem):
		return fmt.Errorf("%s holds no PEM certificate; set it to the PEM file with the root of the CA's API", file)
	}
	return nil
}
