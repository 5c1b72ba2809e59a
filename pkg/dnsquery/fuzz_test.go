package dnsquery

import (
	"strings"
	"testing"

	"github.com/miekg/dns"
)

// Any answer yields only records that answer the question, in bounded number.
func FuzzAnswer(f *testing.F) {
	pack := func(rcode int, records ...string) {
		m := new(dns.Msg).SetQuestion("a.example.", dns.TypeTXT)
		m.Id, m.Response, m.Rcode = 1, true, rcode
		for _, text := range records {
			rr, err := dns.NewRR(text)
			if err != nil {
				f.Fatal(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		packet, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(packet, dns.TypeTXT)
	}
	pack(dns.RcodeSuccess, "a.example. 1 IN TXT value")
	pack(dns.RcodeNameError)
	pack(dns.RcodeSuccess, "A.example. 1 IN CNAME b.example.", "b.example. 1 IN TXT value", "c.example. 1 IN TXT other")
	pack(dns.RcodeSuccess, "a.example. 1 IN CNAME b.example.", "b.example. 1 IN CNAME a.example.")
	pack(dns.RcodeSuccess, "a.example. 1 CH TXT value", "a.example. 1 IN CNAME a.example.")
	f.Fuzz(func(t *testing.T, packet []byte, kind uint16) {
		answer := new(dns.Msg)
		if answer.Unpack(packet) != nil {
			return
		}
		question := new(dns.Msg).SetQuestion("a.example.", kind)
		question.Id = 1
		if err := Check(question, answer); err == nil && len(answer.Question) == 1 && !strings.EqualFold(answer.Question[0].Name, "a.example.") {
			t.Errorf("the answer to %v was taken", answer.Question[0])
		}
		records, err := chain(answer.Answer, Question{Name: "a.example.", Type: kind})
		if err != nil {
			return
		}
		if len(records) > maxRecords*(maxAliases+1) {
			t.Errorf("%d records", len(records))
		}
		names := map[string]bool{"a.example.": true}
		for _, rr := range records {
			h := rr.Header()
			alias, isAlias := rr.(*dns.CNAME)
			if h.Class != dns.ClassINET || h.Rrtype != kind && !isAlias || !names[strings.ToLower(h.Name)] {
				t.Errorf("%v answers another question", rr)
			}
			if isAlias {
				names[strings.ToLower(alias.Target)] = true
			}
		}
	})
}
