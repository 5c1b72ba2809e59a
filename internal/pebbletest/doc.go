// Package pebbletest runs Pebble, the ACME test server of the Let's Encrypt
// project, together with a DNS server that answers every name with 127.0.0.1.
//
// There are two variants. [Start] runs Pebble inside the test's process, which
// is fast, allows fault injection and cannot deadlock under load. (Stock Pebble
// can, from about eight requests in flight.) [StartProcess] runs the stock
// binary that "make pebble" builds, for tests that need the real program.
//
// Both issue certificates that no client trusts. Neither may be reachable from
// outside of this host. So both listen on the loopback interface only, except that
// [StartProcess] can use the test's own [Network].
//
//	ca := pebbletest.Start(t, pebbletest.Options{})
//	ln, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", ca.HTTPPort)) // HTTP-01 answers
//	…
//	client := &acme.Client{DirectoryURL: ca.DirectoryURL, HTTPClient: ca.HTTPClient()}
//
// [New] and [Run] do the same without a test, for programs.
package pebbletest
