// Command flood has the other processes of internal/floodtest: an attacker, a bare
// web server for comparison, and a visitor of port 80.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "bare":
		return bare()
	case len(args) > 2 && args[0] == "visit":
		return visit(args[1], args[2:])
	case len(args) == 5 && args[0] == "attack":
		var conns, addresses int
		if _, err := fmt.Sscan(args[3]+" "+args[4], &conns, &addresses); err != nil {
			return err
		}
		return attack(args[1], args[2], conns, addresses)
	}
	return fmt.Errorf("usage: flood bare | visit DURATION ADDR… | attack KIND ADDR CONNECTIONS ADDRESSES")
}

// bare prints its address and serves 404 with net/http until its input ends.
func bare() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	return http.Serve(l, http.NotFoundHandler())
}

// Visit holds the measurements of one server's visitors.
type Visit struct {
	Answers, Failures int
	Median, P99       time.Duration
}

// visit sends requests to all servers in turn, each over a new connection as a CA
// does. It prints a JSON array of Visit.
func visit(period string, addrs []string) error {
	d, err := time.ParseDuration(period)
	if err != nil {
		return err
	}
	times := make([][]time.Duration, len(addrs))
	out := make([]Visit, len(addrs))
	end := time.Now().Add(d)
	var mu sync.Mutex // guards times and out
	var visitors sync.WaitGroup
	for range 2 {
		visitors.Go(func() {
			for time.Now().Before(end) {
				for i, addr := range addrs {
					took, err := ask(addr)
					mu.Lock()
					if err == nil {
						times[i] = append(times[i], took)
					} else {
						out[i].Failures++
					}
					mu.Unlock()
				}
			}
		})
	}
	visitors.Wait()
	for i := range out {
		slices.Sort(times[i])
		if out[i].Answers = len(times[i]); out[i].Answers > 0 {
			out[i].Median, out[i].P99 = times[i][len(times[i])/2], times[i][len(times[i])*99/100]
		}
	}
	return json.NewEncoder(os.Stdout).Encode(out)
}

func ask(addr string) (time.Duration, error) {
	begun := time.Now()
	c, err := net.DialTimeout("tcp", addr, 10*time.Second)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	c.SetDeadline(begun.Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET /.well-known/acme-challenge/x HTTP/1.1\r\nHost: www.example.com\r\nConnection: close\r\n\r\n"); err != nil {
		return 0, err
	}
	answer, err := io.ReadAll(c)
	if err == nil && len(answer) == 0 {
		err = io.ErrUnexpectedEOF
	}
	return time.Since(begun), err
}
