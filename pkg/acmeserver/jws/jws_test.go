package jws_test

import (
	"bytes"
	"crypto"
	"slices"
	"strings"
	"testing"

	"github.com/acmeproxy/acmeproxy/pkg/acme"
	"github.com/acmeproxy/acmeproxy/pkg/acmeserver/jws"
)

// C4: a correct request with each algorithm.
func TestVerify(t *testing.T) {
	t.Parallel()
	for _, alg := range jws.Algorithms() {
		t.Run(alg, func(t *testing.T) {
			t.Parallel()
			m, err := jws.Parse(marshal(signed(alg, nil)), jws.ByKey)
			if err != nil {
				t.Fatal(err)
			}
			h := m.Header
			if h.Algorithm != alg || h.Nonce != "bm9uY2U" || h.URL != url || h.Kid != "" {
				t.Errorf("header is %+v", h)
			}
			payload, err := m.Verify(h.Key)
			if err != nil || string(payload) != `{"contact":[]}` {
				t.Errorf("payload is %s, %v", payload, err)
			}
			same, ok := h.Key.Public().(interface{ Equal(crypto.PublicKey) bool })
			if !ok || !same.Equal(keys()[alg].Public()) {
				t.Errorf("public key is %T", h.Key.Public())
			}
		})
	}
}

// C4: a request of an account, here a POST-as-GET.
func TestVerifyAccount(t *testing.T) {
	t.Parallel()
	key := keys()["ES256"]
	account := "https://ca.example.com/acme/account/1"
	body := marshal(sign("ES256", key, fields{"alg": "ES256", "kid": account, "nonce": "bm9uY2U", "url": url}, ""))
	m, err := jws.Parse(body, jws.ByKey|jws.ByAccount)
	if err != nil || m.Header.Kid != account || m.Header.Key != nil {
		t.Fatalf("got %+v, %v", m, err)
	}
	own, err := jws.ParseKey(marshal(jwk(key.Public())))
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := m.Verify(own); err != nil || len(payload) != 0 {
		t.Errorf("payload is %s, %v", payload, err)
	}

	_, err = jws.Parse(body, jws.ByKey)
	wantProblem(t, err, acme.Malformed, "kid", "send jwk")
	_, err = jws.Parse(marshal(signed("ES256", nil)), jws.ByAccount)
	wantProblem(t, err, acme.Malformed, "jwk", "send kid")
}

// C4: each fault of the form, in the JWS and in its header.
func TestParseRefuses(t *testing.T) {
	t.Parallel()
	good := signed("ES256", nil)
	text := func(name string) string { return good[name].(string) }
	with := func(changes fields) []byte {
		all := fields{"protected": good["protected"], "payload": good["payload"], "signature": good["signature"]}
		return marshal(changed(all, changes))
	}
	header := func(changes fields) []byte { return marshal(signed("ES256", changes)) }
	raw := func(header string) []byte { return with(fields{"protected": b64([]byte(header))}) }
	compact := text("protected") + "." + text("payload") + "." + text("signature")
	for name, test := range map[string]struct {
		body  []byte
		words []string
	}{
		"empty":               {nil, []string{"JSON object"}},
		"array":               {[]byte("[]"), []string{"JSON object"}},
		"null":                {[]byte("null"), []string{"JSON object"}},
		"compact":             {[]byte(compact), []string{"JSON object"}},
		"cut off":             {with(nil)[:40], []string{"valid JSON"}},
		"trailing":            {append(with(nil), "{}"...), []string{"follows"}},
		"trailing garbage":    {append(with(nil), '}'), []string{"follows"}},
		"invalid UTF-8":       {append([]byte("{\"\xff\":0,"), with(nil)[1:]...), []string{"UTF-8"}},
		"header":              {with(fields{"header": fields{}}), []string{"header: ", "protected"}},
		"signatures":          {with(fields{"signatures": []any{}}), []string{"signatures: "}},
		"another member":      {with(fields{"extra": 1}), []string{`"extra"`}},
		"another case":        {with(fields{"Payload": "", "payload": nil}), []string{"payload: ", "missing"}},
		"no protected":        {with(fields{"protected": nil}), []string{"protected: ", "missing"}},
		"no payload":          {with(fields{"payload": nil}), []string{"payload: ", "missing"}},
		"no signature":        {with(fields{"signature": nil}), []string{"signature: ", "missing"}},
		"empty protected":     {with(fields{"protected": ""}), []string{"protected: ", "empty"}},
		"empty signature":     {with(fields{"signature": ""}), []string{"signature: ", "empty"}},
		"payload an object":   {with(fields{"payload": fields{}}), []string{"payload: ", "string"}},
		"padded":              {with(fields{"payload": "e30="}), []string{"payload: ", "padded"}},
		"base64":              {with(fields{"signature": "ab+/"}), []string{"signature: ", "base64url"}},
		"line break":          {with(fields{"payload": "e3\n0"}), []string{"payload: ", "line breaks"}},
		"loose bits":          {with(fields{"payload": "e31"}), []string{"payload: ", "base64url"}},
		"member twice":        {append([]byte(`{"payload":"",`), with(nil)[1:]...), []string{`"payload"`, "twice"}},
		"member escaped":      {append([]byte(`{"\u0070ayload":"",`), with(nil)[1:]...), []string{`"payload"`, "twice"}},
		"header no object":    {raw(`"alg"`), []string{"protected: ", "JSON object"}},
		"header trailing":     {raw(`{} {}`), []string{"protected: ", "follows"}},
		"alg twice":           {raw(`{"alg":"ES256","alg":"ES256"}`), []string{"protected: ", `"alg"`, "twice"}},
		"header too large":    {raw(`{"x":"` + strings.Repeat("x", 20000) + `"}`), []string{"protected: ", "bytes"}},
		"no alg":              {header(fields{"alg": nil}), []string{"alg: ", "missing"}},
		"alg a number":        {header(fields{"alg": 1}), []string{"alg: ", "string"}},
		"alg null":            {raw(`{"alg":null}`), []string{"alg: ", "string"}},
		"b64":                 {header(fields{"b64": true}), []string{"b64", "leave it out"}},
		"b64 false":           {header(fields{"b64": false, "crit": []string{"b64"}}), []string{"leave it out"}},
		"crit":                {header(fields{"crit": []string{}}), []string{"crit", "leave it out"}},
		"no url":              {header(fields{"url": nil}), []string{"url: ", "missing"}},
		"url empty":           {header(fields{"url": ""}), []string{"url: ", "empty"}},
		"no nonce":            {header(fields{"nonce": nil}), []string{"nonce", "Replay-Nonce"}},
		"nonce empty":         {header(fields{"nonce": ""}), []string{"nonce: ", "empty"}},
		"nonce not base64url": {header(fields{"nonce": "a b"}), []string{"nonce: ", "base64url"}},
		"jwk and kid":         {header(fields{"kid": "x"}), []string{"jwk and kid"}},
		"jwk and empty kid":   {header(fields{"kid": ""}), []string{"jwk and kid"}},
		"neither":             {header(fields{"jwk": nil}), []string{"neither jwk nor kid"}},
		"kid empty":           {header(fields{"jwk": nil, "kid": ""}), []string{"kid: ", "empty"}},
		"kid a number":        {header(fields{"jwk": nil, "kid": 7}), []string{"kid: ", "string"}},
		"jwk a string":        {header(fields{"jwk": "x"}), []string{"jwk: ", "JSON object"}},
		"typ a number":        {header(fields{"typ": fields{}, "x5c": 1}), []string{"protected: ", "type"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := jws.Parse(test.body, jws.ByKey|jws.ByAccount)
			wantProblem(t, err, acme.Malformed, test.words...)
		})
	}
}

// C4: other algorithms are refused with the list of the accepted ones.
func TestAlgorithms(t *testing.T) {
	t.Parallel()
	long := "\x1b[31m" + strings.Repeat("x", 1000)
	for _, alg := range []string{"none", "HS256", "PS256", "ES512", "RS512", "es256", long} {
		_, err := jws.Parse(marshal(signed("ES256", fields{"alg": alg})), jws.ByKey)
		p := wantProblem(t, err, acme.BadSignatureAlgorithm, "alg: ", "use ES256 or")
		if !slices.Equal(p.Algorithms, jws.Algorithms()) || len(p.Detail) > 200 || strings.Contains(p.Detail, "\x1b") {
			t.Errorf("problem is %+v", p)
		}
	}
	for _, alg := range []string{"ES384", "RS256", "EdDSA"} {
		_, err := jws.Parse(marshal(signed("ES256", fields{"alg": alg})), jws.ByKey)
		p := wantProblem(t, err, acme.BadSignatureAlgorithm, alg, "use ES256")
		if !slices.Equal(p.Algorithms, []string{"ES256"}) {
			t.Errorf("problem is %+v", p)
		}
	}
}

// C4: the algorithm must suit the key of an account, too, and no changed part passes.
func TestVerifyRefuses(t *testing.T) {
	t.Parallel()
	for _, alg := range jws.Algorithms() {
		m, err := jws.Parse(marshal(signed(alg, nil)), jws.ByKey)
		if err != nil {
			t.Fatal(err)
		}
		for other, key := range keys() {
			k, err := jws.ParseKey(marshal(jwk(key.Public())))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := m.Verify(k); other != alg {
				wantProblem(t, err, acme.BadSignatureAlgorithm, alg, "use "+other)
			} else if err != nil {
				t.Error(err)
			}
		}
		for _, changes := range []fields{
			{"payload": b64([]byte(`{"contact":["mailto:evil@example.com"]}`))},
			{"payload": ""},
			{"protected": signed(alg, fields{"url": url + "/other"})["protected"]},
			{"signature": b64(make([]byte, 64))},
			{"signature": "AAAA"},
			{"signature": b64(bytes.Repeat([]byte{255}, 96))},
		} {
			m, err := jws.Parse(marshal(changed(signed(alg, nil), changes)), jws.ByKey)
			if err != nil {
				t.Fatal(err)
			}
			_, err = m.Verify(m.Header.Key)
			wantProblem(t, err, acme.Malformed, "signature: ")
		}
	}
}

// C18: the inner JWS of keyChange has the new key and the URL, and no nonce.
func TestParseInner(t *testing.T) {
	t.Parallel()
	m, err := jws.ParseInner(marshal(signed("ES384", fields{"nonce": nil})))
	if err != nil {
		t.Fatal(err)
	}
	if payload, err := m.Verify(m.Header.Key); err != nil || m.Header.URL != url || len(payload) == 0 {
		t.Errorf("payload is %s, %v", payload, err)
	}
	_, err = jws.ParseInner(marshal(signed("ES384", nil)))
	wantProblem(t, err, acme.Malformed, "payload: ", "nonce", "leave it out")
	_, err = jws.ParseInner(marshal(signed("ES384", fields{"nonce": nil, "jwk": nil, "kid": "x"})))
	wantProblem(t, err, acme.Malformed, "payload: ", "send jwk")
	_, err = jws.ParseInner(marshal(signed("ES384", fields{"nonce": nil, "url": nil})))
	wantProblem(t, err, acme.Malformed, "payload: ", "url: ")
	_, err = jws.ParseInner([]byte(`{}`))
	wantProblem(t, err, acme.Malformed, "payload: protected: ")
	_, err = jws.ParseInner(marshal(signed("ES384", fields{"nonce": nil, "alg": "HS384"})))
	wantProblem(t, err, acme.BadSignatureAlgorithm, "payload: ")
}

// Unknown members of a header must be ignored (RFC 7515, section 4).
func TestUnknownMembers(t *testing.T) {
	t.Parallel()
	key := jwk(keys()["ES256"].Public())
	key["kid"], key["use"], key["alg"], key["x5c"] = "own name", "sig", "ES256", 1
	_, err := jws.Parse(marshal(signed("ES256", fields{"typ": "JWT", "resource": "new-reg"})), jws.ByKey)
	if err != nil {
		t.Error(err)
	}
	if _, err := jws.ParseKey(marshal(key)); err != nil {
		t.Error(err)
	}
}
