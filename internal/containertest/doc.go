// Package containertest tests the containers of scripts/test-env.sh: the image that
// users build, in networks where the CA cannot reach the private host. It has tests
// only.
package containertest
