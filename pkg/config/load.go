package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix starts the name of every environment variable that sets a flag.
const EnvPrefix = "ACMEPROXY_"

// notSettings are flags of one call, which only the command line has.
var notSettings = []string{"config", "forget", "help", "json", "reason", "renew", "version"} //nolint:gochecknoglobals // a constant list

// Option changes what Load accepts.
type Option func(*loader)

// WithKeys lets the file have keys that are no flags of this command and are
// read by other code, such as CertificatesKey.
func WithKeys(keys ...string) Option {
	return func(l *loader) { l.extra = append(l.extra, keys...) }
}

type loader struct {
	fs    *pflag.FlagSet
	file  string
	extra []string     // keys that other code reads
	merge *viper.Viper // the file below the environment
}

// Load fills every flag of fs that was not given on the command line: from its
// environment variable if that is set and not empty, else from its key in the
// YAML file, else the default stays. An empty file name means there is no file.
//
// A list flag takes a YAML list or a single string; in its variable, entries
// are separated by white space. pflag's Changed still tells only what was given
// on the command line.
//
// The error joins every fault of the file and the environment.
func Load(fs *pflag.FlagSet, file string, opts ...Option) error {
	// Keys are never nested, so no character of theirs separates levels.
	l := &loader{fs: fs, file: file, merge: viper.NewWithOptions(viper.KeyDelimiter("\x00"))}
	for _, opt := range opts {
		opt(l)
	}
	var faults []error
	if err := l.readFile(); err != nil {
		faults = append(faults, err)
	}
	fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || slices.Contains(notSettings, f.Name) {
			return
		}
		if err := l.fill(f); err != nil {
			faults = append(faults, err)
		}
	})
	return errors.Join(faults...)
}

// readFile checks the file against the flags and puts its values below the
// environment.
func (l *loader) readFile() error {
	if l.file == "" {
		return nil
	}
	doc, err := readDocument(l.file)
	if err != nil {
		return err
	}
	values, err := doc.settings(l.fs, l.extra)
	return errors.Join(err, l.merge.MergeConfigMap(values))
}

// fill gives one flag its value from the environment or the file.
func (l *loader) fill(f *pflag.Flag) error {
	variable := EnvName(f.Name)
	if err := l.merge.BindEnv(f.Name, variable); err != nil {
		return err
	}
	if !l.merge.IsSet(f.Name) {
		return nil
	}
	var err error
	if list, ok := f.Value.(pflag.SliceValue); ok {
		err = list.Replace(l.merge.GetStringSlice(f.Name))
	} else {
		err = f.Value.Set(l.merge.GetString(f.Name))
	}
	if err == nil {
		return nil
	}
	where := variable
	if os.Getenv(variable) == "" {
		where = fmt.Sprintf("%s: %s", l.file, f.Name)
	}
	return fmt.Errorf("%s: write %s", where, kindOf(f).want)
}

// EnvName is the environment variable of a flag: data-dir, ACMEPROXY_DATA_DIR.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
