package cmd

import (
	"slices"
	"strings"
	"testing"
)

// A token that begins with a hyphen is an argument, wherever it is (X2).
func TestWithTokens(t *testing.T) {
	const token = "-vaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	const text = token + ".9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
	const dashes = "-" + token
	for in, want := range map[string]string{
		"remote present T K --name n":                           "remote present --name n -- T K",
		"remote present " + token + " - --name n":               "remote present --name n -- " + token + " -",
		"remote present " + token + " " + text + " --name=n":    "remote present --name=n -- " + token + " " + text,
		"remote present --json --name n " + dashes + " " + text: "remote present --json --name n -- " + dashes + " " + text,
		"remote present --state-dir d " + token + " K --jsno":   "remote present --state-dir d --jsno -- " + token + " K",
		"remote present --name n -- " + token + " -":            "remote present --name n -- " + token + " -",
		"remote present T -- " + token:                          "remote present -- T " + token,
		"remote present --name":                                 "remote present --name --",
		"remote withdraw " + token + " --name n":                "remote withdraw --name n -- " + token,
		"remote withdraw -h":                                    "remote withdraw -h --",
		"remote present":                                        "remote present",
		"remote get " + token:                                   "remote get " + token,
		"version":                                               "version",
	} {
		args := strings.Fields(in)
		if got := withTokens(slices.Clone(args)); strings.Join(got, " ") != want {
			t.Errorf("%s:\n%q, want\n%q", in, strings.Join(got, " "), want)
		}
	}
}
