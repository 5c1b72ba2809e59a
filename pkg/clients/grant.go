package clients

import "slices"

// Grant defines what a client may request. One grant must cover a whole request.
type Grant struct {
	Names    []string `json:"names" yaml:"names,flow" want:"names such as web1.example.com" doc:"patterns: web1.example.com, *.example.com (one label), **.example.com (any depth), wildcard:P, a CIDR"`
	Modes    []Mode   `json:"modes" yaml:"modes,flow" want:"agent, gateway, acme or challenge, or several of them" doc:"agent, gateway, acme, challenge"`
	Networks []string `json:"networks,omitempty" yaml:"networks,omitempty,flow" want:"networks such as 10.1.0.0/16" doc:"source networks; none: any"`
	KeyTypes []string `json:"key_types,omitempty" yaml:"key_types,omitempty,flow" want:"types of keys such as ec256" doc:"none: any"`
	// Profiles are profiles of the CA. ProfileDefault stands for a request without one.
	Profiles   []string `json:"profiles,omitempty" yaml:"profiles,omitempty,flow" want:"profiles of the CA such as shortlived" doc:"profiles of the CA; default: a request without one; none: any"`
	MaxNames   int      `json:"max_names,omitempty" yaml:"max_names,omitempty" doc:"names in one certificate; 0: no limit"`
	DailyQuota int      `json:"daily_quota,omitempty" yaml:"daily_quota,omitempty" doc:"requests a day (UTC); 0: no quota"`
}

// ProfileDefault is the entry of Grant.Profiles for requests without a profile.
const ProfileDefault = "default"

// Equal reports whether two grants have the same values in the same order.
func (g Grant) Equal(o Grant) bool {
	return slices.Equal(g.Names, o.Names) && slices.Equal(g.Modes, o.Modes) && slices.Equal(g.Networks, o.Networks) &&
		slices.Equal(g.KeyTypes, o.KeyTypes) && slices.Equal(g.Profiles, o.Profiles) &&
		g.MaxNames == o.MaxNames && g.DailyQuota == o.DailyQuota
}
