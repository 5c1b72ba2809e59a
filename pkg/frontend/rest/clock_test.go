package rest_test

import (
	"sync/atomic"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/proxy"
)

// clock is a proxy's, some seconds ahead.
type clock struct{ ahead atomic.Int64 }

func (c *clock) set(cfg *proxy.Config) { cfg.Now = c.now }

func (c *clock) now() time.Time { return time.Now().Add(time.Duration(c.ahead.Load()) * time.Second) }

func (c *clock) advance(seconds int64) { c.ahead.Add(seconds) }
