//go:build unix

// Command demo plays the story of acmeproxy's three modes on this machine: a
// real CA (Pebble), a proxy, and two hosts that the CA cannot reach. It needs
// no root, leaves nothing behind and stops everything it started, also on
// Ctrl-C or failure.
//
//	make demo
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := play(ctx, os.Stdout)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case interrupted:
		fmt.Fprintln(os.Stderr, "demo: interrupted; everything is stopped")
		os.Exit(130)
	case err != nil:
		fmt.Fprintln(os.Stderr, "demo: "+err.Error())
		os.Exit(1)
	}
}
