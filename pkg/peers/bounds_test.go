package peers

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/challenge"
	"github.com/acmeproxy/acmeproxy/pkg/responder"
	"github.com/acmeproxy/acmeproxy/pkg/seal"
)

func newPeers(t testing.TB) *Peers {
	t.Helper()
	id, err := seal.GenerateIdentity()
	if err != nil {
		t.Fatal(err)
	}
	p, err := New(Config{
		Identity: id, Self: "self", Local: challenge.Memory{HTTP01: responder.New(), TLSALPN: responder.NewTLSALPN()},
		Due: func() {}, News: func(string) {},
	})
	if err != nil {
		t.Fatal(err)
	}
	p.running, p.reception.since = true, time.Now()
	t.Cleanup(func() {
		p.mu.Lock()
		for key := range p.foreign {
			p.dropForeign(key)
		}
		p.mu.Unlock()
		p.serving.Wait()
	})
	return p
}

// said makes p receive a message from an instance.
func said(t testing.TB, p *Peers, from string, at time.Time, its ...item) {
	t.Helper()
	var box outbox
	box.more = make(chan struct{}, 1)
	if !box.add(its...) {
		t.Fatal("no room")
	}
	for items := box.take(); len(items) > 0; items = box.take() {
		text, err := sealMessage(p.box, message{From: from, At: at.UnixMilli(), Items: items})
		if err != nil {
			t.Fatal(err)
		}
		if len(text) > MaxText {
			t.Fatalf("a text of %d bytes", len(text))
		}
		p.receive(text)
	}
}

func answer(name, token string) *Answer {
	return &Answer{Type: acme.HTTP01, Name: name, Token: token, KeyAuthorization: token + ".x"}
}

// Messages from a holder of the identity use limited memory, and every message fits
// into a text.
func TestBounds(t *testing.T) {
	t.Parallel()
	p := newPeers(t)
	long := strings.Repeat(strings.Repeat("a", 62)+".", 3) + strings.Repeat("b", 61)
	token := strings.Repeat("t", maxText-10)
	for i := range maxForeign + 10 {
		said(t, p, "other", time.Now(), item{Do: put, ID: fmt.Sprint(i), Answer: answer("a.example.com", fmt.Sprint(i))})
	}
	if len(p.foreign) != maxForeign || served(p) != maxForeign {
		t.Errorf("%d answers, %d published", len(p.foreign), served(p))
	}
	said(t, p, "other", time.Now(), item{Do: bye})
	said(t, p, "long", time.Now(), item{Do: put, ID: strings.Repeat("i", maxID), To: strings.Repeat("t", maxName), Answer: answer(long, token)}, item{Do: here})
	if len(p.foreign) != 1 {
		t.Error("the longest answer does not fit")
	}
	said(t, p, "long", time.Now(), item{Do: bye})
	for i := range maxOthers + 10 {
		said(t, p, strings.Repeat("n", maxName-10)+fmt.Sprint(i), time.Now(), item{Do: here})
	}
	if len(p.others) != maxOthers || len(p.foreign) != 0 {
		t.Errorf("%d others, %d answers", len(p.others), len(p.foreign))
	}
	for range maxWaiting + 10 {
		p.NotifyDue()
	}
	if n := len(p.out.items); n > maxWaiting {
		t.Errorf("%d items wait", n)
	}
}

// A message from a wrong clock has no effect, and the status names the cause.
func TestOldMessage(t *testing.T) {
	t.Parallel()
	p := newPeers(t)
	for _, at := range []time.Time{time.Now().Add(-2 * maxSkew), time.Now().Add(2 * maxSkew), time.UnixMilli(-1 << 62), time.UnixMilli(1 << 62)} {
		said(t, p, "other", at, item{Do: put, ID: "1", Answer: answer("a.example.com", "token")})
	}
	if len(p.others)+len(p.foreign)+served(p) != 0 {
		t.Error("it was heard")
	}
	if s := p.Status(); !strings.Contains(s.Problem, "the clock of other ") {
		t.Errorf("problem: %q", s.Problem)
	}
	said(t, p, "other", time.Now().Add(-maxSkew/2), item{Do: put, ID: "1", Answer: answer("a.example.com", "token")})
	if served(p) != 1 {
		t.Error("half a minute is too much")
	}
	// A repeated answer is not published again.
	said(t, p, "other", time.Now(), item{Do: put, ID: "1", Answer: answer("a.example.com", "token")})
	if served(p) != 1 || len(p.foreign) != 1 {
		t.Error("it is there twice")
	}
}

func TestParseMessage(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"from":"a","at":1,"items":[{"do":"here"}]}  `: "",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"t","key_authorization":"t.x"}}]}`: "",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"tls-alpn-01","name":"2001:db8::1","key_authorization":"t.x"}}]}`:       "",
		`{"from":"","at":1,"items":[]}`:                                       "from",
		`{"from":"` + strings.Repeat("a", maxName+1) + `","at":1,"items":[]}`: "from",
		`{"from":"a","at":1,"items":[]} {}`:                                   "after the message",
		`{"from":"a","at":1,"more":1}`:                                        "unknown field",
		`{"from":"a","at":1,"items":[{"do":"run"}]}`:                          "unknown",
		`{"from":"a","at":1,"items":[{"do":"ack"}]}`:                          "id",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1"}]}`:                 "answer",
		`{"from":"a","at":1,"items":[{"do":"here","answer":{}}]}`:             "answer",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"dns-01","name":"a.example","token":"t","key_authorization":"x"}}]}`:                                                                                                                                                                                             "type",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"*.a.example","token":"t","key_authorization":"x"}}]}`:                                                                                                                                                                                          "name",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"A.example","token":"t","key_authorization":"x"}}]}`:                                                                                                                                                                                            "name",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"../t/","key_authorization":"x"}}]}`:                                                                                                                                                                                        "token",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"t","key_authorization":"<b>"}}]}`:                                                                                                                                                                                          "token",
		`{"from":"a","at":1,"items":[{"do":"put","id":"` + strings.Repeat("1", maxID+1) + `","answer":{"type":"http-01","name":"a.example"}}]}`:                                                                                                                                                                                             "id",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","credential":"d","addr":"192.0.2.1","until":1}}]}`: "",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","until":1}}]}`:                                     "",
		`{"from":"a","at":1,"items":[{"do":"end","id":"1","to":"b"},{"do":"clients"}]}`:                                                                                                                                                                                                                                                     "",
		`{"from":"a","at":1,"items":[{"do":"end","to":"b"}]}`: "id",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c"}}]}`:                      "client",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","until":1}}]}`:                         "client",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","until":1,"addr":"x"}}]}`: "addr",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.x","client":"c","credential":"d","addr":"192.0.2.1","until":1}}]}`:                  "token",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"t","key_authorization":"t.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","credential":"d","addr":"192.0.2.1","until":1}}]}`:                                                            "token",
		`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"tls-alpn-01","name":"a.example","token":"","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","credential":"d","addr":"192.0.2.1","until":1}}]}`:               "client",
		``: "EOF",
	} {
		_, _, err := parseMessage([]byte(text))
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// Arbitrary texts in the channel, sealed or not, cause no panic and publish only plain
// answers for plain names.
func FuzzHeard(f *testing.F) {
	f.Add(`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"t","key_authorization":"t.x"}}]}`)
	f.Add(`{"from":"a","items":[{"do":"bye"},{"do":"ack","id":"1","to":"self"},{"do":"fetched","id":"1","to":"self"}]}`)
	f.Add(`{"from":"a","at":1,"items":[{"do":"put","id":"1","answer":{"type":"http-01","name":"a.example","token":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA","key_authorization":"evaGxfADs6pSRb2LAv9IZf17Dt3juxGJ-PCt92wr-oA.9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI","client":"c","credential":"d","addr":"192.0.2.1","until":1}}]}`)
	f.Add(`{"from":"a","items":[{"do":"end","id":"1","to":"self"},{"do":"end","id":"1","to":"b"},{"do":"clients"}]}`)
	f.Add(`{"from":"a","items":[{"do":"hello"},{"do":"remove","id":"1"},{"do":"due"},{"do":"news","id":"1"}]}`)
	f.Add("AAAA")
	f.Fuzz(func(t *testing.T, text string) {
		p := newPeers(t)
		p.addShared(*answer("b.example", "t"), func() {}, nil)
		p.receive(text)
		if served(p) != 0 || len(p.others) != 0 {
			t.Fatal("a text of a stranger was accepted")
		}
		m, items, err := parseMessage([]byte(text))
		if err != nil {
			return
		}
		p.mu.Lock()
		p.handle(time.Now(), m.From, items)
		p.mu.Unlock()
		for _, it := range items {
			raw, err := json.Marshal(it)
			if err != nil || strings.ContainsAny(string(raw), "\r\n") {
				t.Fatalf("%s, %v", raw, err)
			}
		}
	})
}

// served returns the number of HTTP-01 answers that an instance serves.
func served(p *Peers) int { return p.cfg.Local.(challenge.Memory).HTTP01.Len() }
