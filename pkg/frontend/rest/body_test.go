package rest

import (
	"bytes"
	"encoding/json"
	"testing"
)

func TestRepeats(t *testing.T) {
	for text, want := range map[string]bool{
		`{}`:                              false,
		`{"a":1,"b":1}`:                   false,
		`{"a":1,"a":1}`:                   true,
		`{"a":1,"A":1}`:                   true,
		`{"a":1,"\u0061":1}`:              true,
		`{"k":1,"K":1}`:                   true, // the Kelvin sign, which the decoder folds, too
		`{"a":"a","b":"a"}`:               false,
		`{"a":{"a":1},"b":{"a":1}}`:       false,
		`{"a":{"b":1,"b":1}}`:             true,
		`[{"a":1},{"a":1}]`:               false,
		`{"a":["a","a"],"b":[{"a":1}]}`:   false,
		`{"a":[{"b":1}],"c":["b"],"a":1}`: true,
		`{"a":1`:                          false, // for the decoder
		`{"a" 1,"a":1}`:                   false,
		``:                                false,
	} {
		if got := hasRepeatedMember([]byte(text)); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}

// The output of Go's encoder has every member once, and the function ends for every
// input.
func FuzzRepeats(f *testing.F) {
	f.Add([]byte(`{"a":{"b":[1,"x",null,{"c":true}]},"A":1}`))
	f.Add([]byte(`]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		first := hasRepeatedMember(text)
		var v any
		if json.Unmarshal(text, &v) != nil {
			return
		}
		if again, err := json.Marshal(v); err == nil && bytes.Equal(again, text) && first && !foldable(v) {
			t.Errorf("%s has no member twice", text)
		}
	})
}

// foldable reports whether an object has two members that differ only in case.
func foldable(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for name, value := range v {
			if foldable(value) {
				return true
			}
			for other := range v {
				if name != other && bytes.EqualFold([]byte(name), []byte(other)) {
					return true
				}
			}
		}
	case []any:
		for _, value := range v {
			if foldable(value) {
				return true
			}
		}
	}
	return false
}
