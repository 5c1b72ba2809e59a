// Package firewalltest tests the whole of acmeproxy across a firewall that
// really drops packets: three network namespaces with a CA in the first, the
// proxy in the second and a host in the third.
//
//	internet                    dmz                         lan
//	198.51.100.1  ───────  198.51.100.2
//	pebble                 acmeproxy serve
//	                       10.77.0.1    ───────  10.77.0.2
//	                                             acmeproxy remote
//
// The DMZ host is the router as well, so that only its nftables keep the other
// two apart. Of the CA's side they let port 80 in, of the private side port
// 443, and nothing passes through or begins a connection into the private
// network.
//
// The tests need root, iproute2 and nftables on Linux; they are skipped where
// one is missing, unless ACMEPROXY_REQUIRE_TOOLS=1 is set and the user is root.
// They must never touch the host's own network: no interface of a namespace
// leads out of the three.
package firewalltest
