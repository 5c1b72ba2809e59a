package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
	"github.com/spf13/viper"
)

// EnvPrefix starts the name of every environment variable that sets a flag.
const EnvPrefix = "ACMEPROXY_"

// notSettings lists flags of one call. They have no variable and no key.
var notSettings = []string{"config", "expand", "force", "forget", "help", "json", "local", "name", "on-proxy", "reason", "renew", "version", "yes"}

// IsSetting reports whether a flag has a variable and, in a configuration file, a key.
func IsSetting(flag string) bool { return !slices.Contains(notSettings, flag) }

// Load returns new settings. bind creates them with their defaults and binds
// their flags to a new set of flags. Load copies the flags of the command line. For
// every other flag it uses the environment variable, which getenv returns, or else the
// key in the YAML file, or else the default. An empty variable is ignored. If file is
// empty, no file is read.
//
// In the file, a list flag is a YAML list or a single string. In its variable, white
// space separates the entries.
//
// If T is a struct, the fields with a yaml tag are nested settings, which only the
// file can set. A type that implements [Checker] is checked, too. Keys in ignored are
// allowed and not read. If T embeds [Origin], Load fills it.
//
// The error joins all faults of the file and the environment. Load has no state, so
// it may be called again while earlier settings are in use.
func Load[T any](given *pflag.FlagSet, getenv func(string) string, file string, bind func(*pflag.FlagSet) *T, ignored ...string) (*T, error) {
	fs := pflag.NewFlagSet("settings", pflag.ContinueOnError)
	settings := bind(fs)
	var err error
	given.Visit(func(f *pflag.Flag) {
		if own := fs.Lookup(f.Name); own != nil {
			err = errors.Join(err, copyFlag(own, f))
		}
	})
	l := newLoader(fs, getenv)
	if o, ok := any(settings).(interface{ origin() *Origin }); ok {
		l.origin = o.origin()
		l.origin.File = file
	}
	if file != "" {
		err = errors.Join(err, l.readFile(file, reflect.ValueOf(settings).Elem(), ignored))
	}
	return settings, errors.Join(err, l.fill())
}

// LoadEnvironment fills the flags of fs that were not given on the command line
// from the environment variables that getenv returns.
func LoadEnvironment(fs *pflag.FlagSet, getenv func(string) string) error {
	return newLoader(fs, getenv).fill()
}

func copyFlag(to, from *pflag.Flag) error {
	to.Changed = true
	list, ok := from.Value.(pflag.SliceValue)
	if !ok {
		return to.Value.Set(from.Value.String())
	}
	return to.Value.(pflag.SliceValue).Replace(slices.Clone(list.GetSlice()))
}

type loader struct {
	fs      *pflag.FlagSet
	getenv  func(string) string
	merge   *viper.Viper   // the environment overrides the file
	decoder *decoder       // of the file; nil without a file
	values  map[string]any // of the file, by the flag's name
	origin  *Origin
}

func newLoader(fs *pflag.FlagSet, getenv func(string) string) *loader {
	// Keys are never nested, so the delimiter is a character that no key contains.
	return &loader{fs: fs, getenv: getenv, origin: new(Origin), merge: viper.NewWithOptions(viper.KeyDelimiter("\x00"))}
}

// readFile decodes the nested settings and merges the flags' values, which the
// environment overrides.
func (l *loader) readFile(file string, nested reflect.Value, ignored []string) error {
	f, err := os.Open(file)
	if err != nil {
		return missingFile(err)
	}
	defer f.Close()
	root, size, err := readDocument(f, file, maxFile)
	var unreadable *fs.PathError
	if errors.As(err, &unreadable) {
		return missingFile(err)
	}
	if err != nil || root == nil {
		return err
	}
	l.decoder = newDecoder(file, size, callCheck)
	if l.decoder.dir, err = filepath.Abs(filepath.Dir(file)); err != nil {
		return fmt.Errorf("find the folder of %s: %w", file, err)
	}
	l.values = l.decoder.settings(root, l.fs, nested, ignored)
	for key := range l.decoder.lines {
		if entryName.FindString(key) == key {
			l.setPlace(key, l.place(key))
		}
	}
	return errors.Join(l.decoder.err(), l.merge.MergeConfigMap(l.values))
}

// missingFile adds the remedy to the error of a file that cannot be read.
func missingFile(err error) error {
	remedy := "set the path of a YAML file"
	switch {
	case errors.Is(err, fs.ErrNotExist):
		remedy = "create the file, or set another path"
	case errors.Is(err, fs.ErrPermission):
		remedy = "let the user that runs this program read it"
	}
	return fmt.Errorf("config: %w; %s", err, remedy)
}

// fill sets the flags from the environment or the file.
func (l *loader) fill() error {
	var faults []error
	l.fs.VisitAll(func(f *pflag.Flag) {
		if f.Changed || !IsSetting(f.Name) {
			l.hide(f, "")
			return
		}
		if err := l.fillFlag(f); err != nil {
			faults = append(faults, err)
		}
	})
	return errors.Join(faults...)
}

func (l *loader) fillFlag(f *pflag.Flag) error {
	variable := EnvName(f.Name)
	value := l.getenv(variable)
	if value != "" {
		l.merge.Set(f.Name, value)
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
	if err == nil && value != "" {
		l.setPlace(f.Name, variable)
		l.hide(f, variable)
		return nil
	}
	if err == nil {
		l.setPlace(f.Name, l.place(f.Name))
		return nil
	}
	where := variable + ": "
	if value == "" {
		where = l.decoder.where(l.decoder.line(f.Name), f.Name)
	}
	return fmt.Errorf("%swrite %s", where, kindOf(f).want)
}

// EnvName returns the environment variable of a flag, such as ACMEPROXY_DATA_DIR for
// data-dir.
func EnvName(flag string) string {
	return EnvPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}
