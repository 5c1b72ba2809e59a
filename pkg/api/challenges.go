package api

import "time"

// PresentRequest asks the proxy to answer the HTTP-01 challenge with the path's token, for
// one name.
type PresentRequest struct {
	Name             string `json:"name" minLength:"1" maxLength:"512" doc:"DNS name or IP address of the challenge, granted to the caller in the mode challenge"`
	KeyAuthorization string `json:"key_authorization" minLength:"1" maxLength:"512" doc:"the token, a full stop and the thumbprint of the account key (RFC 8555, section 8.1)"`
}

// Presented describes an answer that the proxy gives.
type Presented struct {
	Name  string    `json:"name"`
	Until time.Time `json:"until" doc:"when the answer ends, unless it is withdrawn or presented again"`
}
