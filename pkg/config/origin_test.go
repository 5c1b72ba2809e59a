package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/pflag"
)

type origins struct {
	Origin
	List, More, Same []string
	Text, Level      string
}

func bindOrigins(fs *pflag.FlagSet) *origins {
	o := &origins{}
	fs.StringArrayVar(&o.List, "list", nil, "")
	fs.StringArrayVar(&o.More, "more", nil, "")
	fs.StringArrayVar(&o.Same, "same", nil, "")
	fs.StringVar(&o.Text, "text", "", "")
	fs.StringVar(&o.Level, "level", "info", "")
	return o
}

// Load says where each value is from, and which lists of the file are not used.
func TestOrigin(t *testing.T) {
	t.Setenv("ACMEPROXY_MORE", "x y")
	t.Setenv("ACMEPROXY_TEXT", "z")
	file := write(t, "text: a\nlevel: b\nlist: [a, b]\nmore:\n  - x\n  - w\nsame: [c]\n")
	given := pflag.NewFlagSet("test", pflag.ContinueOnError)
	bindOrigins(given)
	if err := given.Parse([]string{"--list=b", "--same=c", "--same=d"}); err != nil {
		t.Fatal(err)
	}
	o, err := Load(given, os.Getenv, file, bindOrigins)
	if err != nil {
		t.Fatal(err)
	}
	want := Origin{
		File:   file,
		Places: map[string]string{"text": "ACMEPROXY_TEXT", "more": "ACMEPROXY_MORE", "level": file + ":2"},
		Hidden: []Hidden{
			{Key: "list", Place: file + ":3", Missing: []string{"a"}},
			{Key: "more", Place: file + ":4", Variable: "ACMEPROXY_MORE", Missing: []string{"w"}},
		},
	}
	if diff := cmp.Diff(want, o.Origin); diff != "" {
		t.Error(diff)
	}

	cause := errors.New("text: x is wrong\nlevel: y is wrong\nlist: z is wrong\nno key")
	located := o.Locate(cause)
	wantText := "ACMEPROXY_TEXT: x is wrong\n" + file + ":2: level: y is wrong\nlist: z is wrong\nno key"
	if !errors.Is(located, cause) || located.Error() != wantText {
		t.Errorf("got %q", strings.ReplaceAll(located.Error(), filepath.Dir(file), ""))
	}
	if o.Locate(nil) != nil {
		t.Error("no error has a place")
	}
}
