// Package e2e has no code, only tests: stock ACME clients against the ACME server of this
// project. Each client registers, orders certificates, renews and revokes one, and
// changes its account key if it can. The targets are the library (package acmeserver),
// the program examples/acmed, and the relay, which is a whole proxy in front of a Pebble.
//
// `make e2e` runs them. The clients are programs of Debian and Go packages. The packages
// need this module of its own, so that programs that import the project do not download
// them. A program that is not installed skips its tests, or fails them with
// ACMEPROXY_REQUIRE_TOOLS=1.
//
// The tests use loopback and temporary folders only, and end every process that they
// start. They are written for Unix systems.
package e2e
