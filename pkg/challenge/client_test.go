package challenge

import (
	"strings"
	"testing"
)

const (
	clientToken = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	thumbprint  = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
)

// What a client may have served is a token and a key authorization of it, and nothing
// else (X2).
func TestCheckClientAnswer(t *testing.T) {
	t.Parallel()
	for text, ok := range map[string]bool{
		clientToken: true, "-" + clientToken: true, strings.Repeat("a", 22): true, strings.Repeat("a", 128): true,
		"": false, strings.Repeat("a", 21): false, strings.Repeat("a", 129): false, clientToken + "=": false, clientToken + "/": false,
		"../" + clientToken: false, clientToken + "\n": false, clientToken + ".": false, "é" + clientToken: false, clientToken + "\x00": false,
	} {
		if err := CheckToken(text); (err == nil) != ok {
			t.Errorf("token %q: %v", text, err)
		}
	}
	for text, ok := range map[string]bool{
		clientToken + "." + thumbprint: true,
		clientToken:                    false, clientToken + ".": false, "": false, "." + thumbprint: false, thumbprint: false,
		clientToken + "." + thumbprint + "\n": false, clientToken + "." + thumbprint[:42]: false, clientToken + "." + thumbprint + "A": false,
		clientToken + "." + thumbprint[:42] + "J":                      false, // the last bits of 256 are in another form
		clientToken + "." + thumbprint[:20] + "\r\n" + thumbprint[20:]: false,
		clientToken + "." + thumbprint[:42] + "=":                      false, clientToken + ".<script>": false,
		"x" + clientToken + "." + thumbprint: false, clientToken + ".." + thumbprint: false,
	} {
		if err := CheckKeyAuthorization(clientToken, text); (err == nil) != ok {
			t.Errorf("key authorization %q: %v", text, err)
		}
	}
	for name, ok := range map[string]bool{
		"web1.example.com": true, "192.0.2.1": true, "2001:db8::1": true,
		"*.example.com": false, "Web1.example.com": false, "web1": false, "": false, "web1.example.com:80": false, "web1.example.com.": false,
	} {
		if err := CheckName(name); (err == nil) != ok {
			t.Errorf("name %q: %v", name, err)
		}
	}
}

// Whatever is accepted consists of base64url and one full stop.
func FuzzCheckKeyAuthorization(f *testing.F) {
	f.Add(clientToken, clientToken+"."+thumbprint)
	f.Add(clientToken, clientToken+"."+thumbprint[:42]+"\n")
	f.Add("../"+clientToken, "../"+clientToken+"."+thumbprint)
	f.Fuzz(func(t *testing.T, token, text string) {
		if CheckToken(token) != nil || CheckKeyAuthorization(token, text) != nil {
			return
		}
		first, second, _ := strings.Cut(text, ".")
		if first != token || !IsToken(second) || len(second) != len(thumbprint) {
			t.Errorf("%q, %q", token, text)
		}
	})
}
