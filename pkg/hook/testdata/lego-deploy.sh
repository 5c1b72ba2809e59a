#!/bin/sh
# lego --email you@example.com --domains mail.example.com run --run-hook ./lego-deploy.sh
set -eu

install -m 644 "$LEGO_CERT_PATH" "$HAPROXY_DIR/$LEGO_CERT_DOMAIN.crt"
install -m 600 "$LEGO_CERT_KEY_PATH" "$HAPROXY_DIR/$LEGO_CERT_DOMAIN.crt.key"
cp "$LEGO_ISSUER_CERT_PATH" "$HAPROXY_DIR/$LEGO_CERT_DOMAIN.issuer.crt"
echo "deployed $LEGO_CERT_DOMAIN for $LEGO_ACCOUNT_EMAIL" >"$HAPROXY_DIR/log"
