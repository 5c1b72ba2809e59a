// Package config holds the settings of the proxy and of the remote, their
// defaults, and how they are found: a flag beats the environment, which beats
// the file, which beats the default.
//
// Flags are the schema. The command binds them onto a struct whose literals are
// the defaults; Load then fills those that were not given:
//
//	cfg := config.DefaultServe()
//	bind(fs, &cfg)
//	err := config.Load(fs, "/etc/acmeproxy/acmeproxy.yaml")
//	err = cfg.Validate()
//
// It never opens what the settings name: no key file, no port.
package config
