// Package strangertest tests a proxy against strangers that hold thousands of
// connections, send or read slowly, or send malformed requests.
//
// Its tests run one after another. They open so many connections that they would
// disturb others and each other.
package strangertest
