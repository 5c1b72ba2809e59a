#!/bin/sh
# /etc/letsencrypt/renewal-hooks/deploy/10-mail, after the example in certbot's manual.
set -e

for domain in $RENEWED_DOMAINS; do
	case $domain in
	mail.example.com)
		umask 077
		cp "$RENEWED_LINEAGE/fullchain.pem" "$DAEMON_CERT_ROOT/$domain.cert"
		cp "$RENEWED_LINEAGE/privkey.pem" "$DAEMON_CERT_ROOT/$domain.key"
		chmod 400 "$DAEMON_CERT_ROOT/$domain.cert" "$DAEMON_CERT_ROOT/$domain.key"
		;;
	esac
done
