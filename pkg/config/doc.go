// Package config reads what the operator wants: settings from the command line,
// the environment and a YAML file, their defaults, and whether they make sense.
//
// The command line's flags are the schema. A command binds its flags onto a
// struct whose values are the defaults; Load then fills every flag that was not
// given, from the variable ACMEPROXY_<NAME> or else from the file's key of the
// same name:
//
//	cfg := config.DefaultServe()
//	fs.StringVar(&cfg.HTTPAddr, "http-addr", cfg.HTTPAddr, "where HTTP-01 challenges are answered")
//	…
//	if err := config.Load(fs, file); err != nil { … }   // unknown keys, wrong types
//	if err := cfg.Validate(); err != nil { … }          // values that cannot work
//
// All faults are reported together, one a line, each with its key, where it is
// written and what to write instead.
//
// Two lists have readers of their own: LoadRemoteCertificates for what a remote
// keeps, ReadClients for the clients of a proxy.
//
// The package must never use the network, change a file, or show a setting's
// value in an error when the setting may be a secret.
package config
