package issuer
