package remote

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// longestWait is the maximum delay that the proxy can request. CAs count their limits
// over a week.
const longestWait = 7 * 24 * time.Hour

func readBounded(r io.Reader) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, api.MaxAnswer+1))
	if err != nil {
		return nil, fmt.Errorf("read the proxy's answer: %w", err)
	}
	if len(body) > api.MaxAnswer {
		return nil, fmt.Errorf("the proxy's answer is larger than %d bytes", api.MaxAnswer)
	}
	return body, nil
}

// decode decodes JSON and makes its texts printable.
func decode(data []byte, out any) error {
	if _, err := api.Unmarshal(data, api.MaxValues, out); err != nil {
		return fmt.Errorf("the proxy's answer cannot be read: %w", err)
	}
	clean(reflect.ValueOf(out))
	return nil
}

// readProblem returns an *api.Problem for an error response of any content.
func readProblem(resp *http.Response) error {
	body, err := readBounded(resp.Body)
	if err != nil {
		return err
	}
	p := &api.Problem{}
	if _, err := api.Unmarshal(body, api.MaxValues, p); err != nil || p.Error() == "" {
		p = &api.Problem{Detail: "the proxy answered " + resp.Status}
	}
	p.Status = resp.StatusCode
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		p.RetryAfter = seconds
	}
	return cleanProblem(p)
}

func cleanProblem(p *api.Problem) *api.Problem {
	const mostFaults = 16
	p.Errors = p.Errors[:min(len(p.Errors), mostFaults)]
	p.RetryAfter = min(max(p.RetryAfter, 0), int(longestWait/time.Second))
	clean(reflect.ValueOf(p))
	return p
}

// clean makes all texts in v printable.
func clean(v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			clean(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			clean(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type().Field(i).IsExported() {
				clean(v.Field(i))
			}
		}
	case reflect.String:
		v.SetString(toPrintable(v.String()))
	}
}

// toPrintable replaces control characters, so that a malicious server cannot control
// the administrator's terminal.
func toPrintable(s string) string {
	const limit = 2048
	out := make([]rune, 0, min(len(s), limit))
	for _, r := range s {
		if len(out) == limit {
			break
		}
		if !strconv.IsPrint(r) {
			r = ' '
		}
		out = append(out, r)
	}
	return string(out)
}

// parseETag returns the value of an entity tag that is safe to send back.
func parseETag(s string) (string, error) {
	bad := errors.New("the proxy's bundle has no usable ETag")
	if len(s) < 3 || len(s) > 130 || s[0] != '"' || s[len(s)-1] != '"' {
		return "", bad
	}
	s = s[1 : len(s)-1]
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return "", bad
		}
	}
	return s, nil
}
