package cmd

import (
	"errors"
	"strconv"
	"strings"
	"time"
)

// days is a flag's value: a duration that may count days, such as 14d or 1d12h.
type days struct {
	d   time.Duration
	set bool
}

const (
	day      = 24 * time.Hour
	mostDays = 36500
)

// Set implements pflag.Value.
func (v *days) Set(text string) error {
	d, err := parseDays(text)
	if err == nil {
		v.d, v.set = d, true
	}
	return err
}

// String implements pflag.Value.
func (v *days) String() string {
	if !v.set {
		return ""
	}
	return v.d.String()
}

// Type implements pflag.Value.
func (v *days) Type() string { return "days" }

var errDays = errors.New("use a time with its unit, such as 14d or 12h")

// parseDays reads a duration of at most a hundred years, whose first part may be days.
func parseDays(text string) (time.Duration, error) {
	count, rest, found := strings.Cut(text, "d")
	if !found {
		count, rest = "0", text
	}
	n, err := strconv.ParseUint(count, 10, 32)
	if err != nil || n > mostDays {
		return 0, errDays
	}
	d := time.Duration(n) * day
	if rest == "" && found {
		return d, nil
	}
	more, err := time.ParseDuration(rest)
	if err != nil || more < 0 || more > mostDays*day-d {
		return 0, errDays
	}
	return d + more, nil
}

// inWords returns a duration in one unit, such as 89d, 5h or 3m.
func inWords(d time.Duration) string {
	switch {
	case d >= 2*day:
		return strconv.Itoa(int(d/day)) + "d"
	case d >= 2*time.Hour:
		return strconv.Itoa(int(d/time.Hour)) + "h"
	case d >= time.Minute:
		return strconv.Itoa(int(d/time.Minute)) + "m"
	}
	return strconv.Itoa(max(int(d/time.Second), 0)) + "s"
}
