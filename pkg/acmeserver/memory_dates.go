package acmeserver

import (
	"context"
	"time"
)

// CorrectDates implements Storage. It may look at all orders.
func (m *Memory) CorrectDates(_ context.Context, now, latest time.Time, limit int) (corrected int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.orders { // both changes below are allowed meanwhile
		if corrected == limit {
			break
		}
		switch o.CorrectDates(now, latest) {
		case DatesRight:
			continue
		case DatesCorrected:
			o.Version++
			m.putOrder(o)
		case DatesUseless:
			m.deleteOrder(o)
		}
		corrected++
	}
	return corrected, nil
}
