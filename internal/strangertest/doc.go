// Package strangertest tests what strangers can do to a proxy: those who hold
// thousands of connections, send or read slowly, or send what no client would.
//
// Its tests run one after another. They open so many connections that they would
// disturb others, and each other.
package strangertest
