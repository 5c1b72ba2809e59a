package api_test

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/api"
)

// Values are counted before they are decoded: a text never holds more of them than
// were counted, so that the bound holds.
func FuzzUnmarshal(f *testing.F) {
	for _, text := range []string{
		`{}`, `[1,2,3]`, `{"a":[{"b":","},"\"",null]}`, `"[[[["`, `[[[[`, `{"a":"\\","b":["\\\""]}`, "[1,\n2]", ``, `1`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var out any
		counted, err := api.Unmarshal(text, api.MaxValues, &out)
		if err != nil {
			return
		}
		if held := values(out); held > 2*counted+1 { // the first of an array has no comma before it
			t.Errorf("%d values, %d counted", held, counted)
		}
		var plain any
		if err := json.Unmarshal(text, &plain); err != nil || !reflect.DeepEqual(plain, out) {
			t.Errorf("it differs from json.Unmarshal, %v", err)
		}
	})
}

// values counts all values in v, itself included. An object may have one key
// several times, of which it holds the last.
func values(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += values(e)
		}
	case map[string]any:
		for _, e := range v {
			n += values(e)
		}
	}
	return n
}

// What is no text never gets past, and nothing of a request is repeated in a field's
// name but letters.
func FuzzCheckText(f *testing.F) {
	f.Add("/v1/certificates/a", "wait=60s")
	f.Add("/v1/\x00", "")
	f.Add("/v1/\xff", "a=%00&b=%ff")
	f.Add("/", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa=%00")
	f.Fuzz(func(t *testing.T, path, query string) {
		u := &url.URL{Path: path, RawQuery: query}
		status, field, detail := api.CheckText(&http.Request{URL: u})
		bad := !api.IsText(path)
		for _, values := range u.Query() {
			for _, v := range values {
				bad = bad || !api.IsText(v)
			}
		}
		if bad != (status != 0) || bad && (field == "" || detail == "") {
			t.Errorf("status %d, field %q, %q", status, field, detail)
		}
		if len(field) > len("query.")+16 || !api.IsText(field+detail) {
			t.Errorf("the field %q repeats the request", field)
		}
	})
}
