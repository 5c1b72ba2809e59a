package cert

import "fmt"

// FieldError names the invalid field of a request and the reason.
type FieldError struct {
	Field string // as the caller wrote it: names, csr, key_type
	Err   error
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %v", e.Field, e.Err) }

func (e *FieldError) Unwrap() error { return e.Err }

// ParseRequest reads a client's request: names, or a CSR in PEM, or both if they
// agree. Every error is a *FieldError.
func ParseRequest(names []string, csr, keyType string) (Request, error) {
	var req Request
	var err error
	if len(names) > 0 {
		if req.Names, err = ParseNames(names...); err != nil {
			return Request{}, &FieldError{"names", err}
		}
	}
	if csr != "" {
		return parseWithCSR(req, csr, keyType)
	}
	if req.Names == nil {
		return Request{}, &FieldError{"names", fmt.Errorf("missing; write at least one DNS name, or send a csr")}
	}
	if req.KeyType, err = ParseKeyType(keyType); err != nil {
		return Request{}, &FieldError{"key_type", err}
	}
	return req, nil
}

func parseWithCSR(req Request, pem, keyType string) (Request, error) {
	csr, err := ParseCSR([]byte(pem))
	if err != nil {
		return Request{}, &FieldError{"csr", err}
	}
	if err := csr.CheckNew(); err != nil {
		return Request{}, &FieldError{"csr", err}
	}
	if req.Names != nil && !req.Names.Equal(csr.Names) {
		return Request{}, &FieldError{"names", fmt.Errorf("they are %s, but the csr is for %s; leave names out or make them agree", req.Names.few(), csr.Names.few())}
	}
	if err := agrees(keyType, csr.KeyType); err != nil {
		return Request{}, &FieldError{"key_type", err}
	}
	req.Names, req.CSR, req.KeyType = csr.Names, csr.DER, csr.KeyType
	return req, nil
}

// agrees returns an error if the requested key type, if any, is not the CSR's.
func agrees(keyType string, of KeyType) error {
	if keyType == "" {
		return nil
	}
	asked, err := ParseKeyType(keyType)
	if err == nil && asked != of {
		err = fmt.Errorf("it is %s, but the csr's key is %s; leave key_type out with a csr", asked, of)
	}
	return err
}
