package clients

import "slices"

// Grant says what a client may request. One grant must cover a whole request.
type Grant struct {
	Names      []string `json:"names" yaml:"names,flow" doc:"patterns: web1.example.com, *.example.com (one label), **.example.com (any depth), wildcard:P, a CIDR"`
	Modes      []Mode   `json:"modes" yaml:"modes,flow" doc:"agent, gateway"`
	Networks   []string `json:"networks,omitempty" yaml:"networks,omitempty,flow" doc:"source networks; none: any"`
	KeyTypes   []string `json:"key_types,omitempty" yaml:"key_types,omitempty,flow" doc:"none: any"`
	DailyQuota int      `json:"daily_quota,omitempty" yaml:"daily_quota,omitempty" doc:"requests a day (UTC); 0: no quota"`
}

// Equal reports whether two grants say the same in the same order.
func (g Grant) Equal(o Grant) bool {
	return slices.Equal(g.Names, o.Names) && slices.Equal(g.Modes, o.Modes) && slices.Equal(g.Networks, o.Networks) &&
		slices.Equal(g.KeyTypes, o.KeyTypes) && g.DailyQuota == o.DailyQuota
}
