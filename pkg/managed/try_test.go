package managed_test

import (
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/managed"
)

func TestTriesNext(t *testing.T) { // X44
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	ago := func(minutes ...int) (times []time.Time) {
		for _, m := range minutes {
			times = append(times, now.Add(-time.Duration(m)*time.Minute))
		}
		return times
	}
	for _, c := range []struct {
		name    string
		tries   managed.Tries
		earlier []time.Time
		minutes int // until the next
		most    int
	}{
		{"none yet", managed.Tries{2, 3}, nil, 0, 0},
		{"one left", managed.Tries{2, 3}, ago(10), 0, 0},
		{"the hour is used up", managed.Tries{2, 3}, ago(50, 10), 10, 2},
		{"older ones do not count", managed.Tries{2, 9}, ago(500, 90, 60, 10), 0, 0},
		{"the day is used up", managed.Tries{2, 3}, ago(1430, 90, 30), 10, 3},
		{"both", managed.Tries{1, 2}, ago(1430, 59), 10, 2},
		{"more than a lower limit", managed.Tries{1, 9}, ago(50, 40, 30), 30, 1},
		{"of a clock in the future", managed.Tries{1, 1}, ago(-10), 0, 0},
		{"never", managed.Tries{}, nil, 1440, 0},
	} {
		at, most, per := c.tries.Next(c.earlier, now)
		if at.Sub(now) != time.Duration(c.minutes)*time.Minute || most != c.most {
			t.Errorf("%s: in %v by %d within %v, want %d minutes by %d", c.name, at.Sub(now), most, per, c.minutes, c.most)
		}
	}
}

func TestNotNow(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for want, e := range map[string]managed.NotNow{
		"the CA asks to wait":                      {Reason: managed.CAWaits},
		"the proxy asks to wait":                   {Reason: managed.ProxyWaits},
		"4 attempts were requested within an hour": {Reason: managed.TriesUsed, Most: 4, Per: time.Hour},
		"24 attempts were requested within a day":  {Reason: managed.TriesUsed, Most: 24, Per: 24 * time.Hour},
		"several times":                            {Reason: managed.OrdersUsed},
	} {
		e.At = at
		if got := e.Error(); !strings.Contains(got, want) || !strings.HasSuffix(got, "at 2026-03-01 12:00:00 UTC") {
			t.Errorf("%+v: %s", e, got)
		}
	}
}
