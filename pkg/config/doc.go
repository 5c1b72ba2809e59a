// Package config reads the administrator's settings from the command line, the
// environment and a YAML file. It defines their defaults and checks their values.
//
// The command line's flags are the schema. A function creates a struct with the
// defaults and binds its flags. Load then fills every flag that was not given, from
// the variable ACMEPROXY_<NAME> or else from the file's key of the same name:
//
//	func bind(fs *pflag.FlagSet) *config.Serve {
//		cfg := config.DefaultServe()
//		fs.StringVar(&cfg.HTTPAddr, "http-addr", cfg.HTTPAddr, "address of the HTTP-01 listener")
//		…
//		return &cfg
//	}
//
//	cfg, err := config.Load(cmd.Flags(), os.Getenv, file, bind) // unknown keys, wrong types
//	err = cfg.Validate()                                        // invalid values
//
// A field with a yaml tag is a nested setting, such as a list of structs. One
// decoder reads these and the file of clients; see field for its tags.
//
// All faults are reported together, one a line, each with its key, its place and the
// fix.
//
// The package must never use the network, change a file, or show a setting's
// value in an error when the setting may be a secret.
package config
