// Package acmems reads the configuration of ACMEMS, a server that signs CSRs for scripts
// with openssl and wget, and decides by it who may have which certificates. Existing files
// are read unchanged, with the defaults, warnings and errors of ACMEMS 0.5. Where ACMEMS is
// less strict than its file reads, this package is not; DIFFERENCES below lists that.
//
// It opens no socket and no file, and resolves no name. No message quotes a value of an
// [auth] section, because it may be a misplaced secret.
//
//	cfg, err := acmems.Parse(text) // err: each fault of the file, with its line
//	for _, w := range cfg.Warnings { … }
//	blocks, err := cfg.Possible(caller)         // before the body is read
//	blocks, err = caller.Accepted(blocks, body)  // before the CSR is parsed
//	block, err := acmems.Choose(blocks, names)
//
// # Differences
//
//   - An [auth] block with domains and without a method is an error, not open to everyone.
//   - An incomplete or empty HMAC key is an error, and so is a method behind an unknown
//     option, which ACMEMS ignores together with the rest of the block.
//   - max-size = 16k is 16384 bytes, not 1024. The key mgmt works like listener.
//   - default-storage applies if there are several storages, too.
//   - Without a default-verification, several [verification] blocks remain as they are, even
//     if one of them is called http. Blocks without one get another http01 as in ACMEMS.
//   - accept-terms-of-service may have a comment behind it, as in the README.
//   - Domains match without regard to case. IP addresses, which no block can allow, are denied.
//   - IPv4 callers never match an IPv6 network.
//   - The HMAC is checked before the CSR is parsed, so that strangers cost little.
//   - A plugin is an error, because it may be what denies a request.
package acmems
