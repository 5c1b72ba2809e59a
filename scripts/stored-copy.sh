#!/usr/bin/env bash
# Writes a copy of an installation, created by the program of an earlier commit: the
# proxy's data directory, its database as PostgreSQL text, two hosts' state
# directories and outputs, and the configuration files. The test cmd/testdata/script/
# upgrade.txtar continues from each copy with the present program.
set -euo pipefail

usage() {
	cat <<'TEXT'
Usage: ./scripts/stored-copy.sh PROGRAM FOLDER

Writes the installation that PROGRAM (an acmeproxy) makes into FOLDER, which must
not exist. Needs .pebble/bin (make pebble), openssl, ssh-keygen and PostgreSQL.
In the files, @WORK@ is written for the installation's folder, and @HTTPS_PORT@
for the port of the API.
TEXT
}

[ $# -eq 2 ] || { usage >&2; exit 2; }
[ ! -e "$2" ] || { echo "$2 exists; use another folder" >&2; exit 1; }
program=$(realpath "$1")
into=$(realpath -m "$2")
pebble=$(realpath "$(dirname "$0")/../.pebble/bin")

work=$(mktemp -d)
pids=()
finish() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
	wait
	rm -rf "$work"
}
trap finish EXIT
cd "$work"

acme=14510 management=14511 http=14512 https=14513 dns=14514 dns_management=14515 postgres=14516

# until_ok COMMAND… waits until the command succeeds, at most a minute.
until_ok() {
	local tries=0
	until "$@" >/dev/null 2>&1; do
		tries=$((tries + 1))
		[ "$tries" -lt 600 ] || { echo "timeout: waited a minute for: $*" >&2; tail -n 20 "$work"/*.log >&2; exit 1; }
		sleep 0.1
	done
}

# The CA. Its certificates are valid for decades, so that they are valid in the test.
mkdir ca
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout ca/key.pem -out ca/cert.pem \
	-days 365 -subj /CN=ca -addext subjectAltName=IP:127.0.0.1 2>/dev/null
cat >ca/pebble.json <<TEXT
{"pebble": {"listenAddress": "127.0.0.1:$acme", "managementListenAddress": "127.0.0.1:$management",
	"certificate": "$work/ca/cert.pem", "privateKey": "$work/ca/key.pem", "httpPort": $http, "tlsPort": $https,
	"keyAlgorithm": "ecdsa", "retryAfter": {"authz": 0, "order": 0},
	"profiles": {"default": {"description": "decades", "validityPeriod": 946080000}}}}
TEXT
"$pebble/pebble-challtestsrv" -http01 "" -https01 "" -doh "" -tlsalpn01 "" -dnsserver "127.0.0.1:$dns" \
	-defaultIPv4 127.0.0.1 -defaultIPv6 "" -management "127.0.0.1:$dns_management" >dns.log 2>&1 &
pids+=($!)
PEBBLE_VA_NOSLEEP=1 PEBBLE_WFE_NONCEREJECT=0 "$pebble/pebble" -config ca/pebble.json -dnsserver "127.0.0.1:$dns" >ca.log 2>&1 &
pids+=($!)
export LEGO_CA_CERTIFICATES=$work/ca/cert.pem
until_ok curl --silent --cacert ca/cert.pem "https://127.0.0.1:$acme/dir"

# The proxy.
mkdir copy
cd copy
cat >acmeproxy.yaml <<TEXT
data-dir: $work/copy/data
hostname: proxy.example.test
accept-tos: true
email: ops@example.test
acme-directory-url: https://127.0.0.1:$acme/dir
http-addr: 127.0.0.1:$http
https-addr: 127.0.0.1:$https
certificate-obtained-hook: echo "\$ACMEPROXY_NAMES" >>$work/copy/hook.log
TEXT
run() { "$program" "$@"; }
admin() { run "$@" --config acmeproxy.yaml; }
"$program" serve --config acmeproxy.yaml >../serve.log 2>&1 &
serve=$!
pids+=("$serve")
until_ok admin status
until_ok test -s hook.log

# Clients of every kind. One key occurs with two comments. Another is larger than the
# limit for new keys.
ssh-keygen -q -t ed25519 -N '' -C 'root@lb one' -f lb
ssh-keygen -q -t rsa -b 8192 -N '' -C large -f large
api=https://127.0.0.1:$https
add() { admin clients add "$@" --url "$api" | grep -o 'ap[xt]1-.*'; }
web1=$(add web1 --allow 'web1.example.test,*.web1.example.test' --mode agent)
web2=$(add web2 --allow '**.web2.example.test' --mode agent,gateway --from 127.0.0.0/8 --quota 50)
add lb --allow lb.example.test --mode agent --bearer --recipient "$(cat lb.pub)" \
	--recipient "$(cut -d' ' -f1-2 lb.pub) root@lb two" >lb.token
add large --allow large.example.test --mode agent --bearer --recipient "$(cat large.pub)" >large.token
add locked --allow locked.example.test --bearer >locked.token
admin clients disable locked >/dev/null
add unused --allow unused.example.test >unused.token

run remote enroll "$web1" --state-dir web1
run remote get web1.example.test www.web1.example.test --state-dir web1 --out ssl/web1 --hook "echo web1 >>$work/copy/hook.log"
run remote get a.web1.example.test --state-dir web1
run remote enroll "$web2" --state-dir web2
echo secret >p12-password
run remote get gate.web2.example.test --state-dir web2 --mode gateway --out ssl/web2 --format haproxy,pkcs12 \
	--pkcs12-password-file p12-password --key-mode 0640
for name in lb large; do
	curl --silent --show-error --insecure --fail --header "Authorization: Bearer $(cat $name.token)" \
		--json "{\"names\": [\"$name.example.test\"], \"mode\": \"agent\"}" "$api/v1/certificates" >/dev/null
done
until_ok sh -c "'$program' clients show lb --config acmeproxy.yaml --json | grep not_after"
until_ok sh -c "'$program' clients show large --config acmeproxy.yaml --json | grep not_after"
run remote get refused.example.org --state-dir web1 2>/dev/null && exit 1
cat >remote.yaml <<TEXT
state-dir: $work/copy/web1
poll: 1s
certificates:
  - names: [web1.example.test, www.web1.example.test]
    mode: agent
    out: ssl/web1
    hook: echo web1 >>$work/copy/hook.log
TEXT
admin clients export >clients.yaml
kill "$serve"
wait "$serve" || true

# The same database as text for PostgreSQL.
bin=$(dirname "$(find /usr/lib/postgresql -name initdb | sort -V | tail -n 1)")
mkdir "$work/pg"
chmod 755 "$work"
chown postgres "$work/pg" 2>/dev/null || true
as_postgres() {
	if [ "$(id -u)" -eq 0 ]; then setpriv --reuid=postgres --regid=postgres --clear-groups "$@"; else "$@"; fi
}
(
	cd "$work/pg"
	as_postgres "$bin/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --locale=C.UTF-8 >/dev/null
	as_postgres "$bin/postgres" -D data -k "$work/pg" -h 127.0.0.1 -p "$postgres" >server.log 2>&1 &
	echo $! >"$work/pg.pid"
)
pids+=("$(cat "$work/pg.pid")")
url=postgres://postgres@127.0.0.1:$postgres/postgres
until_ok psql "$url" -c 'SELECT 1'
admin store copy --to "$url"
pg_dump --inserts --no-owner --no-acl "$url" | sed -e '/^\\/d' >postgres.sql

rm -f hook.log
find . -name '*.sock' -delete
grep -rlI --null -e "$work/copy" -e ":$https" . | xargs -0 sed -i -e "s|$work/copy|@WORK@|g" -e "s|:$https|:@HTTPS_PORT@|g"
if grep -rl "$work" .; then
	echo "the files above still name $work" >&2
	exit 1
fi
cp -a . "$into"
du -sh "$into"
