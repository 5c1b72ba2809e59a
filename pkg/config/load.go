package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cast"
	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// envPrefix comes before a flag's name in the environment.
const envPrefix = "ACMEPROXY_"

// maxFile is the largest configuration file read, in bytes.
const maxFile = 1 << 20

// Option changes what Load accepts.
type Option func(*loader)

// AllowCertificates accepts the key certificates of a remote's file, which
// LoadRemoteCertificates reads.
func AllowCertificates() Option {
	return func(l *loader) { l.extra = append(l.extra, certificatesKey) }
}

type loader struct {
	fs    *pflag.FlagSet
	file  string
	extra []string // keys of the file that are no flags
}

// notSettings are flags that only the command line has.
var notSettings = []string{"config", "help", "json", "version"} //nolint:gochecknoglobals // a constant list

// Load fills every flag of fs that was not set on the command line from the
// environment (ACMEPROXY_HTTP_ADDR for --http-addr) and from the YAML file
// (http-addr); file may be empty. Entries of a list are separated by blanks in
// the environment. Every fault is reported, each with its key and where it
// stands.
func Load(fs *pflag.FlagSet, file string, opts ...Option) error {
	l := &loader{fs: fs, file: file}
	for _, o := range opts {
		o(l)
	}
	values, err := readYAML(file)
	if err != nil {
		return err
	}
	faults := l.unknown(values)
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || slices.Contains(notSettings, f.Name) {
			return
		}
		if err := l.fill(f, values); err != nil {
			faults = append(faults, err)
		}
	})
	return errors.Join(faults...)
}

// fill sets one flag from the environment or the file.
func (l *loader) fill(f *pflag.Flag, values map[string]any) error {
	variable := envName(f.Name)
	if text, ok := os.LookupEnv(variable); ok && text != "" {
		if err := set(f, text, strings.Fields(text)); err != nil {
			return fmt.Errorf("%s in the environment: %w", variable, err)
		}
		return nil
	}
	value, ok := values[f.Name]
	if !ok || value == nil {
		return nil
	}
	text, list, err := plain(value)
	if err == nil {
		err = set(f, text, list)
	}
	if err != nil {
		return fmt.Errorf("%s in %s: %w", f.Name, l.file, err)
	}
	return nil
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// plain makes text of a YAML scalar, and a list of a scalar or a list.
func plain(value any) (text string, list []string, err error) {
	if items, ok := value.([]any); ok {
		for _, item := range items {
			s, err := cast.ToStringE(item)
			if err != nil {
				return "", nil, fmt.Errorf("write texts into the list")
			}
			list = append(list, s)
		}
		return strings.Join(list, ","), list, nil
	}
	text, err = cast.ToStringE(value)
	if err != nil {
		return "", nil, fmt.Errorf("write a text, a number or a list of texts, nothing nested")
	}
	return text, []string{text}, nil
}

// set replaces a flag's value and leaves Changed alone, which belongs to the
// command line.
func set(f *pflag.Flag, text string, list []string) error {
	if s, ok := f.Value.(pflag.SliceValue); ok {
		return s.Replace(list)
	}
	if err := f.Value.Set(text); err != nil {
		return fmt.Errorf("%q is no %s", text, kind(f.Value.Type()))
	}
	return nil
}

func kind(flagType string) string {
	switch flagType {
	case "bool":
		return "switch; write true or false"
	case "duration":
		return "duration; write it like 15m"
	case "int", "int64":
		return "whole number"
	}
	return flagType
}

// readYAML reads the top level of the file. An empty name is an empty file.
func readYAML(file string) (map[string]any, error) {
	if file == "" {
		return nil, nil
	}
	info, err := os.Stat(file)
	if err != nil {
		var p *fs.PathError
		if errors.As(err, &p) {
			err = p.Err
		}
		return nil, fmt.Errorf("config: cannot read %s: %w", file, err)
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("config: %s has %d bytes; the limit is %d", file, info.Size(), maxFile)
	}
	v := viper.NewWithOptions(viper.KeyDelimiter("\x00")) // a dot in a key is a dot
	v.SetConfigFile(file)
	v.SetConfigType("yaml")
	if err := v.ReadInConfig(); err != nil {
		return nil, fmt.Errorf("config: %s is not the YAML expected: %w", file, err)
	}
	return v.AllSettings(), nil
}

// unknown reports keys that are no settings, with the nearest one.
func (l *loader) unknown(values map[string]any) []error {
	known := slices.Clone(l.extra)
	l.fs.VisitAll(func(f *pflag.Flag) {
		if !slices.Contains(notSettings, f.Name) {
			known = append(known, f.Name)
		}
	})
	var faults []error
	for key := range values {
		if slices.Contains(known, key) {
			continue
		}
		hint := "the keys are the names of the flags"
		if near := nearest(key, known); near != "" {
			hint = fmt.Sprintf("did you mean %s?", near)
		}
		faults = append(faults, fmt.Errorf("%s in %s: unknown key; %s", key, l.file, hint))
	}
	slices.SortFunc(faults, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return faults
}

// nearest is the known key that a few typing errors lead to, if there is one.
func nearest(key string, known []string) string {
	best, bestDistance := "", 4
	for _, k := range known {
		if d := distance(strings.ReplaceAll(key, "_", "-"), k); d < bestDistance {
			best, bestDistance = k, d
		}
	}
	return best
}

// distance is Levenshtein's, for short texts.
func distance(a, b string) int {
	if len(a) > 64 || len(b) > 64 {
		return 64
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
