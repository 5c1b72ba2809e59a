#!/usr/bin/env bash
# A private Internet in podman containers: a CA, the proxy in the DMZ and a host
# that the CA cannot reach. See usage below and docs/development.md.
#
# All images, volumes and networks are in a separate storage below .test-env, so your
# own podman is not affected. The script pulls no images and opens no port of this
# host. Both networks are internal.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
	cat <<'TEXT'
Usage: ./scripts/test-env.sh start|stop|status|logs|run

  start            build the images, start everything, check the networks, play
                   the three modes; suggests what to try next
  stop             remove everything
  status           show what runs
  logs [NAME]      show the logs of pebble, dns, proxy or remote; default all
  run NAME ARG…    run acmeproxy in the container proxy or remote

Needs podman 4 or newer, as root or not, and no Internet. The exit code is 3
where this host lacks something, and 1 when anything else failed.
TEXT
}

state=$PWD/.test-env
containers=(dns pebble proxy remote)

# The networks and addresses. The first network is reserved for documentation
# (RFC 5737), so no real host uses it.
internet=acmeproxy-internet internet_subnet=198.51.100.0/24
private=acmeproxy-private private_subnet=10.77.0.0/24
pebble=198.51.100.10 dns=198.51.100.11 proxy_outside=198.51.100.20
proxy_inside=10.77.0.20 remote=10.77.0.30 neighbour=10.77.0.40

say() { printf '%s\n' "$*"; }

indent() { sed 's/^/  /'; }

fail() {
	printf 'test-env: %s\n' "$*" >&2
	exit 1
}

# lacks reports what is missing on this host and exits with code 3.
lacks() {
	printf 'test-env: %s\n' "$*" >&2
	exit 3
}

# The folders of administrators' programs.
export PATH="$PATH:/usr/sbin:/sbin"

# need PROGRAM PACKAGE… exits with the remedy if the program is missing.
need() {
	local program=$1
	shift
	command -v "$program" >/dev/null || lacks "$program is not installed; install it: sudo apt-get install $*"
}

check_host() {
	local packages=(podman netavark iptables)
	# crun and podman's defaults need pure cgroup v2.
	if [ ! -e /sys/fs/cgroup/cgroup.controllers ]; then
		packages+=(runc)
		need runc "${packages[@]}"
	fi
	if [ "$(id -u)" -ne 0 ]; then
		packages+=(uidmap slirp4netns)
		need newuidmap "${packages[@]}"
		need slirp4netns "${packages[@]}"
		grep -q "^$(id -un):" /etc/subuid 2>/dev/null ||
			lacks "$(id -un) has no subordinate user ids; give some: sudo usermod --add-subuids 200000-265535 --add-subgids 200000-265535 $(id -un)"
		[ -w /dev/net/tun ] ||
			lacks "$(id -un) may not open /dev/net/tun, which podman's networks need; allow it: sudo chmod 666 /dev/net/tun"
	fi
	need podman "${packages[@]}"
	need nsenter util-linux
	need openssl openssl
	need curl curl
	local version
	version=$(podman --version) # the subcommand would use your own storage
	version=${version##* }
	[ "${version%%.*}" -ge 4 ] || lacks "podman $version is too old; version 4 or newer is needed"
}

# write_config creates the folders and a configuration of podman that also works
# without systemd and on hybrid cgroups.
write_config() {
	local dir
	mkdir -p "$state/networks" "$state/ca"
	# podman needs a short path for its sockets.
	dir=$(mktemp -d /tmp/acmeproxy-XXXXXX)
	ln -sfn "$dir" "$state/run"
	{
		say '[engine]'
		say 'cgroup_manager = "cgroupfs"'
		say 'events_logger = "none"'
		say 'lock_type = "file"' # the default is shared with your own podman
		[ -e /sys/fs/cgroup/cgroup.controllers ] || say 'runtime = "runc"'
		say '[network]'
		for dir in /usr/lib/podman /usr/libexec/podman /usr/local/lib/podman; do
			if [ -x "$dir/netavark" ]; then
				say 'network_backend = "netavark"'
				break
			fi
		done
	} >"$state/containers.conf"
}

# pod runs podman with that configuration and a separate storage.
pod() {
	local run
	run=$(readlink "$state/run")
	CONTAINERS_CONF=$state/containers.conf podman --log-level error \
		--root "$state/storage" --runroot "$run/run" --tmpdir "$run/tmp" \
		--storage-driver vfs --network-config-dir "$state/networks" "$@"
}

# capped NAME FLAG prints this shell's hard limit, at most 4096. podman's defaults may
# exceed this user's limits.
capped() {
	local limit
	limit=$(ulimit -H "$2")
	if [ "$limit" = unlimited ] || [ "$limit" -gt 4096 ]; then
		limit=4096
	fi
	say "$1=$limit:$limit"
}

# container NAME PODMAN-RUN-ARGUMENT… starts a container.
container() {
	local name=$1
	shift
	pod run --name "$name" --pull never --log-driver k8s-file \
		--ulimit "$(capped nofile -n)" --ulimit "$(capped nproc -u)" \
		--read-only --cap-drop all --security-opt no-new-privileges "$@"
}

running() {
	[ -e "$state/run" ] && [ "$(pod inspect --format '{{.State.Running}}' "$1" 2>/dev/null)" = true ]
}

all_running() {
	local name
	for name in "${containers[@]}"; do
		running "$name" || return 1
	done
}

# inside NAME COMMAND… runs a program of this host in a container's network.
inside() {
	local pid enter=()
	pid=$(pod inspect --format '{{.State.Pid}}' "$1")
	shift
	[ "$(id -u)" -eq 0 ] || enter=(pod unshare)
	"${enter[@]}" nsenter --net="/proc/$pid/ns/net" "$@"
}

reaches() {
	# shellcheck disable=SC2016 # the inner shell expands it
	inside "$1" timeout 2 bash -c '</dev/tcp/$0/$1' "$2" "$3" 2>/dev/null
}

# until_true WHAT COMMAND… waits for a condition, at most 30 seconds.
until_true() {
	local what=$1 deadline=$((SECONDS + 30))
	shift
	until "$@"; do
		[ "$SECONDS" -lt "$deadline" ] || fail "timeout: waited 30 s until $what"
		sleep 0.1
	done
}

build_images() {
	say "building the images"
	make -s pebble image-files
	pod build -q --layers=false -t localhost/acmeproxy -f Containerfile bin/image >/dev/null
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
		-subj "/CN=Pebble's own server" -addext "subjectAltName=IP:$pebble" \
		-keyout "$state/ca/server.key" -out "$state/ca/server.pem" 2>/dev/null
	chmod 644 "$state/ca/server.key" "$state/ca/server.pem" # containers run with another uid
	cp .pebble/bin/pebble .pebble/bin/pebble-challtestsrv "$state/ca/"
	cat >"$state/ca/pebble.json" <<JSON
{"pebble": {
  "listenAddress": "$pebble:14000", "managementListenAddress": "$pebble:15000",
  "certificate": "/server.pem", "privateKey": "/server.key",
  "httpPort": 8080, "tlsPort": 8443, "keyAlgorithm": "ecdsa",
  "retryAfter": {"authz": 1, "order": 1},
  "profiles": {"default": {"description": "90 days", "validityPeriod": 7776000}}
}}
JSON
	pod build -q --layers=false -t localhost/pebble -f - "$state/ca" >/dev/null <<'CONTAINERFILE'
FROM scratch
COPY pebble pebble-challtestsrv server.pem server.key pebble.json /
USER 65532:65532
CONTAINERFILE
}

start_containers() {
	say "starting containers"
	# Internal networks: no route to the outside or to each other.
	pod network create --internal --disable-dns --subnet "$internet_subnet" "$internet" >/dev/null
	pod network create --internal --disable-dns --subnet "$private_subnet" "$private" >/dev/null
	container dns -d --network "$internet:ip=$dns" localhost/pebble /pebble-challtestsrv \
		-http01 '' -https01 '' -doh '' -tlsalpn01 '' -dnsserver "$dns:53000" -management "$dns:8055" \
		-defaultIPv4 "$proxy_outside" -defaultIPv6 '' >/dev/null
	container pebble -d --network "$internet:ip=$pebble" -e PEBBLE_VA_NOSLEEP=1 -e PEBBLE_WFE_NONCEREJECT=0 -e PEBBLE_AUTHZREUSE=0 \
		localhost/pebble /pebble -config /pebble.json -dnsserver "$dns:53000" >/dev/null
	until_true "Pebble answers" pebble_get /dir
	container proxy -d --network "$internet:ip=$proxy_outside" --network "$private:ip=$proxy_inside" \
		-v proxy:/var/lib/acmeproxy -v "$state/ca/server.pem:/etc/acmeproxy/ca.pem:ro,z" \
		-e LEGO_CA_CERTIFICATES=/etc/acmeproxy/ca.pem -e "ACMEPROXY_ACME_DIRECTORY_URL=https://$pebble:14000/dir" \
		localhost/acmeproxy serve --hostname acmeproxy.example.com --domain www.example.com --accept-tos >/dev/null
	until_true "the proxy answers" proxy_status
}

pebble_get() {
	inside pebble curl -sf --cacert "$state/ca/server.pem" "https://$pebble:14000$1" -o /dev/null
}

proxy_status() { pod exec proxy /acmeproxy status >/dev/null 2>&1; }

# check_uid NAME checks that the program is not root, in its container or on this
# host (A40).
check_uid() {
	local pid uid
	uid=$(pod inspect --format '{{.Config.User}}' "$1")
	[ "${uid%%:*}" -ne 0 ] || fail "$1 runs as root in its container"
	pid=$(pod inspect --format '{{.State.Pid}}' "$1")
	uid=$(awk '/^Uid:/ { print $2 }' "/proc/$pid/status")
	[ "$uid" -ne 0 ] || fail "$1 runs as root"
	say "  $1 runs as uid $uid of this host, with a read-only root folder"
}

open_way() {
	reaches "$1" "$2" "$3" || fail "$1 cannot reach $4 at $2:$3"
	say "  $1 reaches $4"
}

closed_way() {
	! reaches "$1" "$2" "$3" || fail "$1 reaches $4 at $2:$3"
	say "  $1 cannot reach $4"
}

# check_networks tries all connections between the networks, to open ports. The
# neighbour is a host of the private network that only listens.
check_networks() {
	say "the networks:"
	container neighbour -d --network "$private:ip=$neighbour" localhost/acmeproxy serve >/dev/null
	until_true "the neighbour listens" reaches neighbour "$neighbour" 8080
	open_way proxy "$neighbour" 8080 "a private host"
	open_way neighbour "$proxy_inside" 8443 "the proxy's private side"
	local name
	for name in pebble dns; do
		open_way "$name" "$proxy_outside" 8080 "the proxy's public side"
		closed_way "$name" "$neighbour" 8080 "a private host"
		closed_way "$name" "$proxy_inside" 8443 "the proxy's private side"
	done
	closed_way neighbour "$pebble" 14000 "the CA"
	closed_way neighbour "$proxy_outside" 8080 "the proxy's public side"
	pod rm -f -t 5 neighbour >/dev/null
}

# has CONTAINER FOLDER succeeds if the folder has a PEM set.
has() { pod cp "$1:$2/fullchain.pem" - >/dev/null 2>&1; }

# verify NAME CONTAINER FOLDER checks a certificate against the CA's root.
verify() {
	local dir=$state/verify
	rm -rf "$dir"
	mkdir "$dir"
	inside pebble curl -sf --cacert "$state/ca/server.pem" "https://$pebble:15000/roots/0" >"$dir/root.pem"
	pod cp "$2:$3/." "$dir/set"
	openssl verify -CAfile "$dir/root.pem" -untrusted "$dir/set/chain.pem" -verify_hostname "$1" "$dir/set/cert.pem" >/dev/null ||
		fail "the certificate of $1 in $2:$3 does not verify"
	rm -rf "$dir"
	say "  $1: verified, in $2:$3"
}

play_modes() {
	local data=/var/lib/acmeproxy name token
	say "acme-client: certificates of the proxy's own host"
	for name in acmeproxy.example.com www.example.com; do
		until_true "the proxy has a certificate for $name" has proxy "$data/certs/$name"
		verify "$name" proxy "$data/certs/$name"
	done

	say "enrolling a private host"
	token=$(pod exec proxy /acmeproxy clients add web1 --allow 'web1.example.com,*.web1.example.com' \
		--url "https://$proxy_inside:8443" 2>/dev/null | grep -o 'apx1-[^ ]*')
	container enroll --rm --network "$private:ip=$remote" -v remote:/var/lib/acmeproxy localhost/acmeproxy remote enroll "$token" 2>&1 | indent
	container remote -d --network "$private:ip=$remote" -v remote:/var/lib/acmeproxy localhost/acmeproxy remote run --poll 10s >/dev/null

	say "certificate-agent: the proxy obtains a certificate and cannot open the stored bundle"
	pod exec remote /acmeproxy remote get agent.web1.example.com --mode agent --out "$data/agent" 2>&1 | indent
	verify agent.web1.example.com remote "$data/agent"
	say "acme-gateway: the key never leaves the private host"
	pod exec remote /acmeproxy remote get gateway.web1.example.com --mode gateway --out "$data/gateway" 2>&1 | indent
	verify gateway.web1.example.com remote "$data/gateway"
}

start() {
	check_host
	if [ -e "$state" ] && all_running; then
		say "already running"
		next
		return
	fi
	[ ! -e "$state" ] || stop
	local began=$SECONDS
	trap give_up EXIT
	trap 'exit 130' INT TERM
	write_config
	build_images
	start_containers
	check_uid proxy
	check_networks
	play_modes
	check_uid remote
	trap - EXIT INT TERM
	say "all checks passed in $((SECONDS - began)) s"
	next
}

# give_up shows why start failed, and removes what it created.
give_up() {
	local code=$?
	trap - EXIT
	show_logs >&2 || true
	stop >&2 || true
	exit "$code"
}

next() {
	cat <<'TEXT'

Try next:
  ./scripts/test-env.sh run proxy status
  ./scripts/test-env.sh run proxy audit
  ./scripts/test-env.sh run remote remote get new.web1.example.com
  ./scripts/test-env.sh run remote remote get not.granted.example.com   # refused
  ./scripts/test-env.sh run remote remote list
  ./scripts/test-env.sh logs proxy
  ./scripts/test-env.sh stop
TEXT
}

ended() { [ "$1" -eq 0 ] || ! kill -0 "$1" 2>/dev/null; }

stop() {
	if [ ! -e "$state" ]; then
		say "nothing is running"
		return
	fi
	local run
	run=$(readlink "$state/run" || true)
	if [ -n "$run" ]; then
		[ -d "$run" ] || mkdir -m 700 "$run" # a restart of this host removes it
		local monitors pid
		mapfile -t monitors < <(pod ps --all --quiet | while read -r pid; do pod inspect --format '{{.State.ConmonPid}}' "$pid"; done)
		pod rm --all --force --volumes --time 10 >/dev/null
		for pid in "${monitors[@]}"; do # they clean up their containers
			until_true "podman has cleaned up" ended "$pid"
		done
		pod network rm --force "$internet" "$private" >/dev/null 2>&1 || true # missing after a failed start
		if [ "$(id -u)" -ne 0 ]; then
			pod unshare rm -rf "$state/storage" "$run/run"
			pod system migrate >/dev/null # ends podman's process that holds the user namespace
		fi
		rm -rf "$run"
	fi
	rm -rf "$state"
	say "stopped; nothing is left"
}

status() {
	if [ ! -e "$state/run" ]; then
		say "not running; run ./scripts/test-env.sh start"
		return 1
	fi
	pod ps --all --format 'table {{.Names}}\t{{.Status}}\t{{.Networks}}'
	all_running || fail "not all containers run; see ./scripts/test-env.sh logs, then start again"
	say
	pod exec proxy /acmeproxy status
}

logs() {
	[ -e "$state/run" ] || fail "not running; run ./scripts/test-env.sh start"
	show_logs "$@"
}

# show_logs [NAME…] shows the logs of these containers, or of all.
show_logs() {
	local name
	if [ $# -eq 0 ]; then
		mapfile -t containers < <(pod ps --all --format '{{.Names}}')
		set -- "${containers[@]}"
	fi
	for name in "$@"; do
		pod container exists "$name" || fail "no container $name; use one of: ${containers[*]}"
		say "== $name"
		pod logs "$name" 2>&1
	done
}

run() {
	[ $# -ge 2 ] || fail "run needs a container and a command, such as: run proxy status"
	running "$1" || fail "$1 does not run; run ./scripts/test-env.sh start"
	local name=$1 terminal=()
	shift
	[ ! -t 0 ] || [ ! -t 1 ] || terminal=(--tty)
	pod exec --interactive "${terminal[@]}" "$name" /acmeproxy "$@"
}

case ${1:-} in
start | stop | status | logs | run) "$@" ;;
help | -h | --help) usage ;;
*)
	usage >&2
	exit 2
	;;
esac
