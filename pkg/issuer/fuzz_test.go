package issuer

import (
	"encoding/base64"
	"encoding/json"
	"strings"
	"testing"
	"time"
)

// An accepted directory has the required URLs, and all its URLs have hosts that a CA
// may use.
func FuzzCheckDirectory(f *testing.F) {
	const base = "https://ca.example/dir"
	f.Add([]byte(`{"newNonce":"/n","newAccount":"https://ca.example/a","newOrder":"o","revokeCert":"http://ca.example/r"}`))
	f.Add([]byte(`{"newNonce":"https://10.0.0.1/n","newAccount":"/a","newOrder":"/o"}`))
	f.Add([]byte(`{"newNonce":1,"newAccount":"/a","newOrder":"/o","meta":{"profiles":{"a":"b"}}}`))
	f.Add([]byte(`null`))
	w := newWire(nil, base, time.Now)
	f.Fuzz(func(t *testing.T, body []byte) {
		out, err := w.checkDirectory(base, body)
		if err != nil {
			return
		}
		var d map[string]any
		if err := json.Unmarshal(out, &d); err != nil {
			t.Fatal(err)
		}
		for i, name := range directoryURLs {
			u, _ := d[name].(string)
			if u == "" {
				if i < 3 {
					t.Errorf("there is no %s", name)
				}
				continue
			}
			if again, err := w.resolve(base, u); err != nil || !strings.HasPrefix(u, "https://") {
				t.Errorf("%s: %q becomes %q, %v", name, u, again, err)
			}
		}
	})
}

// Empty dates are replaced, and nothing else changes.
func FuzzEmptyDates(f *testing.F) {
	f.Add([]byte(`{"status":"pending","expires":"","challenges":[{"validated" : " "}]}`))
	f.Add([]byte(`{"a":"\"expires\":\"\"","expires":"2026-05-01T00:00:00Z"}`))
	f.Add([]byte("-----BEGIN CERTIFICATE-----"))
	f.Fuzz(func(t *testing.T, body []byte) {
		out := nullEmptyDates(body)
		if json.Valid(body) != json.Valid(out) {
			t.Errorf("%q becomes %q", body, out)
		}
		if again := nullEmptyDates(out); string(again) != string(out) {
			t.Errorf("%q becomes %q and then %q", body, out, again)
		}
	})
}

// lego can decode the key of an accepted binding, and canonical returns it unchanged.
func FuzzEAB(f *testing.F) {
	f.Add("kid", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4")
	f.Add("\ufeffkid", "\ufeffzWND ZM6e+/GHWpSRTPal5eIUYFTu7EajVIoguysqZ9w==\r\n")
	f.Add(" ", "c2hvcnQ=")
	f.Add(" \ufeff\ufeff kid", "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG4")
	f.Fuzz(func(t *testing.T, kid, key string) {
		got, err := (&EAB{Kid: kid, HMACKey: key}).canonical()
		if err != nil {
			if len(key) > 8 && strings.Contains(err.Error(), key) {
				t.Errorf("the error %q shows the key", err)
			}
			return
		}
		if raw, err := base64.RawURLEncoding.DecodeString(got.HMACKey); err != nil || len(raw) < minHMACKey || got.Kid == "" {
			t.Errorf("%+v, %v", got, err)
		}
		if again, err := got.canonical(); err != nil || *again != *got {
			t.Errorf("%+v becomes %+v, %v", got, again, err)
		}
	})
}
