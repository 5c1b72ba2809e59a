package acmeserver_test

import (
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acmeserver"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/storagetest"
)

func TestMemory(t *testing.T) { // C12
	storagetest.Run(t, func(*testing.T, func() time.Time) acmeserver.Storage { return acmeserver.NewMemory() })
}
