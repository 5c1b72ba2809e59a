package rest_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
	"github.com/acmeproxy/acmeproxy/pkg/frontend/admin"
	"github.com/acmeproxy/acmeproxy/pkg/proxy"
	"github.com/acmeproxy/acmeproxy/pkg/proxy/proxytest"
)

const (
	challengeToken = "evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA"
	keyThumbprint  = "9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI"
)

func presentBody(name, token string) api.PresentRequest {
	return api.PresentRequest{Name: name, KeyAuthorization: token + "." + keyThumbprint}
}

func withdrawPath(name, token string) string {
	return api.PathHTTP01 + "/" + token + "?name=" + url.QueryEscape(name)
}

// answersAt reports whether port 80 answers a token for a name.
func answersAt(t *testing.T, p *proxytest.Proxy, name, token string) bool {
	t.Helper()
	status, body := proxytest.AnswerAt(t, p.HTTPAddr(), name, token)
	if status == http.StatusOK && body != token+"."+keyThumbprint {
		t.Errorf("port 80 answers %q", body)
	}
	return status == http.StatusOK
}

// A client's answer is on port 80 from PUT to DELETE, however often it is fetched, and in
// no file and no log (X2).
func TestChallenge(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	c := p.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeChallenge, "*.example.com"))
	for range 2 {
		r := c.Do(t, http.MethodPut, api.PathHTTP01+"/"+challengeToken, presentBody("WWW.example.com", challengeToken))
		var got api.Presented
		if err := json.Unmarshal(r.Body, &got); err != nil || r.Status != http.StatusOK || got.Name != "www.example.com" {
			t.Fatalf("%d %s, %v", r.Status, r.Body, err)
		}
		if left := time.Until(got.Until); left < 59*time.Minute || left > time.Hour {
			t.Errorf("it ends in %v", left)
		}
		for range 3 {
			if !answersAt(t, p, "www.example.com", challengeToken) {
				t.Fatal("port 80 does not answer")
			}
		}
	}
	if answersAt(t, p, "ftp.example.com", challengeToken) {
		t.Error("the token is answered for another name")
	}
	written := p.Everything(t)
	secrets := proxytest.Traces{}
	secrets.Add("token", challengeToken)
	secrets.Add("thumbprint", keyThumbprint)
	for _, found := range secrets.In(written) {
		t.Error(found)
	}
	for range 2 {
		if r := c.Do(t, http.MethodDelete, withdrawPath("www.example.com", challengeToken), nil); r.Status != http.StatusNoContent || len(r.Body) != 0 {
			t.Errorf("withdraw: %d %s", r.Status, r.Body)
		}
		if answersAt(t, p, "www.example.com", challengeToken) {
			t.Error("it is still answered")
		}
	}
	if n, w := p.Audited(t, "web1", "challenge present", "allowed"), p.Audited(t, "web1", "challenge withdraw", "done"); n != 2 || w != 1 {
		t.Errorf("audit: %d and %d", n, w)
	}
}

// Hostile requests get a 4xx problem, repeat nothing and publish nothing (X2).
func TestChallengeAttacks(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.Hostname = "proxy.a.example.com" }})
	c := newCaller(t, p, "http/1.1", "")
	c.enroll(t, p, "web1", proxytest.Grant(clients.ModeChallenge, "*.a.example.com"), proxytest.Grant(clients.ModeAgent, "*.b.example.com"))
	path := api.PathHTTP01 + "/" + challengeToken
	body := func(name, text string) string { return object("name", name, "key_authorization", text) }
	good := body("www.a.example.com", challengeToken+"."+keyThumbprint)
	long := strings.Repeat(sentinel, 60)
	for what, test := range map[string]struct {
		path, body, field string
		statuses          []int
	}{
		"a long token":           {api.PathHTTP01 + "/" + long, body("www.a.example.com", long+"."+keyThumbprint), "", []int{422}},
		"a very long token":      {api.PathHTTP01 + "/" + strings.Repeat("a", 5000), good, "path.token", []int{422}},
		"a short token":          {api.PathHTTP01 + "/x", body("www.a.example.com", "x."+keyThumbprint), "path.token", []int{422}},
		"no token":               {api.PathHTTP01 + "/", good, "", []int{404, 405}},
		"a path":                 {api.PathHTTP01 + "/..%2f..%2f" + challengeToken, good, "", []int{404, 422}},
		"an encoded slash":       {path + "%2f" + challengeToken, good, "path.token", []int{422}},
		"two segments":           {path + "/" + challengeToken, good, "", []int{404}},
		"a NUL":                  {path + "%00", good, "", []int{404}},
		"a newline":              {path + "%0a", good, "path.token", []int{422}},
		"a full stop":            {path + "." + keyThumbprint, good, "path.token", []int{422}},
		"a key of another token": {path, body("www.a.example.com", "x"+challengeToken+"."+keyThumbprint), "body.key_authorization", []int{422}},
		"HTML":                   {path, body("www.a.example.com", challengeToken+".<script>"+sentinel), "body.key_authorization", []int{422}},
		"a header":               {path, body("www.a.example.com", challengeToken+"."+keyThumbprint+"\r\nX: "+sentinel), "body.key_authorization", []int{422}},
		"a long text":            {path, body("www.a.example.com", challengeToken+"."+strings.Repeat("A", 600)), "body.key_authorization", []int{422}},
		"no text":                {path, object("name", "www.a.example.com"), "", []int{422}},
		"no name":                {path, object("key_authorization", challengeToken+"."+keyThumbprint), "", []int{422}},
		"a name twice":           {path, object("name", "www.a.example.com", "name", "b.a.example.com", "key_authorization", challengeToken+"."+keyThumbprint), "", []int{400}},
		"an unknown field":       {path, object("name", "www.a.example.com", "key_authorization", challengeToken+"."+keyThumbprint, "until", sentinel), "", []int{422}},
		"a large body":           {path, body("www.a.example.com", strings.Repeat(sentinel, 1000)), "body", []int{413}},
		"no JSON":                {path, sentinel, "", []int{400, 422}},
		"a wildcard":             {path, body("*.a.example.com", challengeToken+"."+keyThumbprint), "body.name", []int{422}},
		"a name with a path":     {path, body("www.a.example.com/x", challengeToken+"."+keyThumbprint), "body.name", []int{422}},
		"a name with a port":     {path, body("www.a.example.com:80", challengeToken+"."+keyThumbprint), "body.name", []int{422}},
		"another mode":           {path, body("www.b.example.com", challengeToken+"."+keyThumbprint), "body.mode", []int{403}},
		"another client's name":  {path, body("www.c.example.com", challengeToken+"."+keyThumbprint), "body.names", []int{403}},
		"the proxy's name":       {path, body("proxy.a.example.com", challengeToken+"."+keyThumbprint), "body.names", []int{403}},
	} {
		resp := c.do(t, request{method: http.MethodPut, path: test.path, body: test.body})
		resp.refused(t, test.field, sentinel, test.statuses...)
		if t.Failed() {
			t.Fatalf("%s: %d %s", what, resp.status, resp.body)
		}
	}
	for _, query := range []string{"", "?name=", "?name=*.a.example.com", "?name=one-label", "?name=www.c.example.com", "?name=" + strings.Repeat("a", 1000)} {
		c.do(t, request{method: http.MethodDelete, path: path + query}).refused(t, "", sentinel, 422, 403)
	}
	stranger := newCaller(t, p, "http/1.1", "")
	stranger.do(t, request{method: http.MethodPut, path: path, body: good}).refused(t, "", "", http.StatusUnauthorized)
	stranger.do(t, request{method: http.MethodDelete, path: path + "?name=www.a.example.com"}).refused(t, "", "", http.StatusUnauthorized)
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPatch} {
		c.do(t, request{method: method, path: path, body: good}).refused(t, "", "", http.StatusMethodNotAllowed)
	}
	// The API's port does not answer what port 80 does.
	if resp := c.do(t, request{method: http.MethodPut, path: path, body: good}); resp.status != http.StatusOK {
		t.Fatalf("a good request: %d %s", resp.status, resp.body)
	}
	c.do(t, request{method: http.MethodGet, path: "/.well-known/acme-challenge/" + challengeToken}).refused(t, "", "", 404)
	if p.Answers() != 1 {
		t.Errorf("%d answers", p.Answers())
	}
}

// A client cannot touch another client's token, or take its places (X2, X42).
func TestChallengeOthers(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	a := p.NewCaller(t, "a", nil, proxytest.Grant(clients.ModeChallenge, "*.example.com"))
	b := p.NewCaller(t, "b", nil, proxytest.Grant(clients.ModeChallenge, "www.example.com"))
	path := api.PathHTTP01 + "/" + challengeToken
	if r := a.Do(t, http.MethodPut, path, presentBody("www.example.com", challengeToken)); r.Status != http.StatusOK {
		t.Fatalf("%d %s", r.Status, r.Body)
	}
	other := presentBody("www.example.com", challengeToken)
	other.KeyAuthorization = challengeToken + "." + strings.Repeat("A", 43)
	if r := b.Do(t, http.MethodPut, path, other); r.Status != http.StatusConflict || !strings.Contains(r.Problem(t).Detail, "another client") {
		t.Errorf("replace: %d %s", r.Status, r.Body)
	}
	if r := b.Do(t, http.MethodDelete, withdrawPath("www.example.com", challengeToken), nil); r.Status != http.StatusConflict {
		t.Errorf("withdraw: %d %s", r.Status, r.Body)
	}
	if !answersAt(t, p, "www.example.com", challengeToken) || p.Audited(t, "b", "challenge present", "refused") != 1 {
		t.Error("the answer of the other client is gone, or the attempt not audited")
	}

	// Thousands of tokens: 256 are accepted.
	accepted := 0
	var refused proxytest.Reply
	for n := range 400 {
		token := fmt.Sprintf("token-%016d", n)
		if r := b.Do(t, http.MethodPut, api.PathHTTP01+"/"+token, presentBody("www.example.com", token)); r.Status == http.StatusOK {
			accepted++
		} else {
			refused = r
		}
	}
	if accepted != 256 || refused.Status != http.StatusTooManyRequests || refused.Header.Get("Retry-After") == "" {
		t.Errorf("%d accepted, then %d %s", accepted, refused.Status, refused.Body)
	}
	if r := a.Do(t, http.MethodPut, path+"2", presentBody("ftp.example.com", challengeToken+"2")); r.Status != http.StatusOK {
		t.Errorf("the other client: %d %s", r.Status, r.Body)
	}
}

// The answers of a client end at once when it is disabled or removed, or loses its grant or
// its token (X2).
func TestChallengeEnds(t *testing.T) {
	t.Parallel()
	p := proxytest.Start(t, proxytest.Options{})
	for what, end := range map[string]func(name string) error{
		"disabled": func(name string) error { _, err := p.Admin.SetDisabled(t.Context(), name, true); return err },
		"removed":  func(name string) error { _, err := p.Admin.RemoveClient(t.Context(), name); return err },
		"applied": func(name string) error {
			p.Apply(t, admin.ApplyRequest{Clients: []admin.ClientSpec{proxytest.Spec(name, name+".example.com")}})
			return nil
		},
		"replaced": func(name string) error { p.NewToken(t, name, admin.NewToken{Replace: true}); return nil },
	} {
		c := p.NewCaller(t, what, nil, proxytest.Grant(clients.ModeChallenge, what+".example.com"))
		name := what + ".example.com"
		if r := c.Do(t, http.MethodPut, api.PathHTTP01+"/"+challengeToken, presentBody(name, challengeToken)); r.Status != http.StatusOK || !answersAt(t, p, name, challengeToken) {
			t.Fatalf("%s: %d %s", what, r.Status, r.Body)
		}
		if err := end(what); err != nil {
			t.Fatal(err)
		}
		if answersAt(t, p, name, challengeToken) {
			t.Errorf("%s: port 80 still answers", what)
		}
		if n := p.Audited(t, what, "challenge withdraw", "done"); n != 1 && what != "removed" {
			t.Errorf("%s: %d audit entries", what, n)
		}
		if r := c.Do(t, http.MethodPut, api.PathHTTP01+"/"+challengeToken, presentBody(name, challengeToken)); r.Status != 401 && r.Status != 403 {
			t.Errorf("%s: %d %s", what, r.Status, r.Body)
		}
	}
	if p.Answers() != 0 {
		t.Errorf("%d answers", p.Answers())
	}
}

// If another web server answers on port 80, the client learns why the proxy does not (X2).
func TestChallengeElsewhere(t *testing.T) {
	t.Parallel()
	webroot := t.TempDir()
	p := proxytest.Start(t, proxytest.Options{Change: func(c *proxy.Config) { c.HTTP01Webroot = webroot }})
	c := p.NewCaller(t, "web1", nil, proxytest.Grant(clients.ModeChallenge, "*.example.com"))
	r := c.Do(t, http.MethodPut, api.PathHTTP01+"/"+challengeToken, presentBody("www.example.com", challengeToken))
	if r.Status != http.StatusConflict || !strings.Contains(r.Problem(t).Detail, "a web server answers there") || p.Answers() != 0 {
		t.Errorf("%d %s", r.Status, r.Body)
	}
}
