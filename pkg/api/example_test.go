package api_test

import (
	"encoding/json"
	"fmt"

	"github.com/acmeproxy/acmeproxy/pkg/api"
	"github.com/acmeproxy/acmeproxy/pkg/clients"
)

func ExampleCertificateRequest() {
	body, err := json.Marshal(api.CertificateRequest{Mode: clients.ModeAgent, Names: []string{"web1.example.com"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("POST", api.PathCertificates, string(body))
	// Output: POST /v1/certificates {"mode":"agent","names":["web1.example.com"]}
}
