package clients

import "slices"

// Grant defines what a client may request. One grant must cover a whole request.
type Grant struct {
	Names      []string `json:"names" yaml:"names,flow" want:"names such as web1.example.com" doc:"patterns: web1.example.com, *.example.com (one label), **.example.com (any depth), wildcard:P, a CIDR"`
	Modes      []Mode   `json:"modes" yaml:"modes,flow" want:"agent, gateway or both" doc:"agent, gateway"`
	Networks   []string `json:"networks,omitempty" yaml:"networks,omitempty,flow" want:"networks such as 10.1.0.0/16" doc:"source networks; none: any"`
	KeyTypes   []string `json:"key_types,omitempty" yaml:"key_types,omitempty,flow" want:"types of keys such as ec256" doc:"none: any"`
	DailyQuota int      `json:"daily_quota,omitempty" yaml:"daily_quota,omitempty" doc:"requests a day (UTC); 0: no quota"`
}

// Equal reports whether two grants have the same values in the same order.
func (g Grant) Equal(o Grant) bool {
	return slices.Equal(g.Names, o.Names) && slices.Equal(g.Modes, o.Modes) && slices.Equal(g.Networks, o.Networks) &&
		slices.Equal(g.KeyTypes, o.KeyTypes) && g.DailyQuota == o.DailyQuota
}
