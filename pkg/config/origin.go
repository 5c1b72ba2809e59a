package config

import (
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"
)

// Origin says where settings are from. Settings that embed it get it from Load.
type Origin struct {
	// File is the path of the configuration file; it may be empty.
	File string
	// Places holds the place of each flag that the environment or the file sets: a
	// variable, or FILE:LINE. Entries of lists have the key of the list with an index.
	Places map[string]string
	// Hidden lists the lists of the file that are not used, because the command line or
	// the environment sets another list.
	Hidden []Hidden
}

// Hidden is a list of the file that is not used.
type Hidden struct {
	Key      string
	Place    string   // of the list, FILE:LINE
	Variable string   // that is used instead; if empty, the command line is
	Missing  []string // entries that the other list does not have
}

func (o *Origin) origin() *Origin { return o }

// Locate adds its place to each line of an error that begins with a key and a colon. The
// result wraps the error.
func (o *Origin) Locate(err error) error {
	if err == nil || len(o.Places) == 0 {
		return err
	}
	var all []string
	for line := range strings.Lines(err.Error()) {
		line = strings.TrimSuffix(line, "\n")
		key, text, _ := strings.Cut(line, ": ")
		switch place := o.Places[key]; {
		case place == "":
		case place == EnvName(key):
			line = place + ": " + text
		default:
			line = place + ": " + line
		}
		all = append(all, line)
	}
	return &located{strings.Join(all, "\n"), err}
}

// located is an error with places in its text.
type located struct {
	text string
	err  error
}

func (l *located) Error() string { return l.text }
func (l *located) Unwrap() error { return l.err }

// setPlace records where the value of a flag, or an entry of a list, is from.
func (l *loader) setPlace(key, place string) {
	if l.origin.Places == nil {
		l.origin.Places = map[string]string{}
	}
	l.origin.Places[key] = place
}

// place returns the file and the line of a key.
func (l *loader) place(key string) string {
	return l.decoder.file + ":" + strconv.Itoa(l.decoder.line(key))
}

// hide records that a flag, set by the variable or else on the command line, replaces
// a list of the file.
func (l *loader) hide(f *pflag.Flag, variable string) {
	list, isList := f.Value.(pflag.SliceValue)
	inFile, _ := l.values[f.Name].([]string)
	if !isList || len(inFile) == 0 {
		return
	}
	used := list.GetSlice()
	missing := slices.DeleteFunc(slices.Clone(inFile), func(entry string) bool { return slices.Contains(used, entry) })
	if len(missing) > 0 {
		l.origin.Hidden = append(l.origin.Hidden, Hidden{f.Name, l.place(f.Name), variable, missing})
	}
}
