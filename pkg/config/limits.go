package config

import (
	"fmt"
	"strconv"
)

// QuotaAuto as DefaultDailyQuota sets newQuota for a database that was created by
// this version or a later one, and no quota for an older database.
const QuotaAuto = "auto"

// newQuota is the default number of requests a day of a client in a new database.
const newQuota = 300

// most is the maximum of a quota or a limit, more than any useful value.
const most = 1_000_000_000

// DailyQuota returns the number of requests a day of a client whose grants set no
// quota, or 0 for no limit.
func (s *Serve) DailyQuota(newDatabase bool) int {
	if s.DefaultDailyQuota != QuotaAuto {
		n, err := strconv.Atoi(s.DefaultDailyQuota)
		if err == nil { // Validate has checked it
			return n
		}
	}
	if newDatabase {
		return newQuota
	}
	return 0
}

// QuotaValue implements the flag of a quota. In a file its value is a number or text.
type QuotaValue string

// String implements pflag.Value.
func (q *QuotaValue) String() string { return string(*q) }

// Set implements pflag.Value. Validate checks the text.
func (q *QuotaValue) Set(s string) error {
	*q = QuotaValue(s)
	return nil
}

// Type implements pflag.Value.
func (q *QuotaValue) Type() string { return quotaType }

const quotaType = "quota"

func checkQuota(s string) error {
	if s == QuotaAuto || s == "" {
		return nil
	}
	if n, err := strconv.Atoi(s); err != nil || n < 0 || n > most {
		return fmt.Errorf("%.20q is not a quota; write a number of requests a day, 0 for any number, or %s", s, QuotaAuto)
	}
	return nil
}

func checkCertificates(n int) error {
	if n < 0 || n > most {
		return fmt.Errorf("%d is not a number of certificates; write 1 or more, or 0 for any number", n)
	}
	return nil
}
