#!/bin/sh
# Installs what make dist has built: program, man pages, shell completions, systemd units
# and hooks. Run it as `make install`, which sets the variables. It builds nothing, because
# root should not. Each file is replaced at once, so that the program may run meanwhile.

set -eu
cd "$(dirname "$0")/.."

: "${PREFIX?run make install}" "${BIN:?}" "${DIST:?}" "${BINDIR:?}" "${UNITDIR:?}" "${HOOKDIR:?}" "${MANDIR:?}" "${BASHDIR:?}" "${ZSHDIR:?}" "${FISHDIR:?}"
DESTDIR=${DESTDIR:-}
if [ -z "$PREFIX" ]; then
	echo "PREFIX is empty; use PREFIX=/usr, or leave it out for /usr/local" >&2
	exit 2
fi

# The units and hooks contain BINDIR without quotes.
case "$BINDIR" in
*[!A-Za-z0-9/._+-]* | [!/]*)
	echo "\"$BINDIR\" is not an absolute path of letters, digits and / . _ + -; use another PREFIX, such as /usr/local" >&2
	exit 2
	;;
esac
for file in "$BIN/acmeproxy" "$DIST/man/acmeproxy.1" "$DIST/completions/acmeproxy.fish"; do
	if [ ! -f "$file" ]; then
		echo "$file is missing; run make dist first" >&2
		exit 2
	fi
done

# put MODE FOLDER NAME installs standard input as a file.
put() {
	mkdir -p "$DESTDIR$2"
	cat >"$DESTDIR$2/.$3.new"
	chmod "$1" "$DESTDIR$2/.$3.new"
	mv -f "$DESTDIR$2/.$3.new" "$DESTDIR$2/$3"
	echo "$DESTDIR$2/$3"
}

umask 022
put 755 "$BINDIR" acmeproxy <"$BIN/acmeproxy"
for page in "$DIST"/man/*.1; do
	put 644 "$MANDIR/man1" "${page##*/}" <"$page"
done
put 644 "$BASHDIR" acmeproxy <"$DIST/completions/acmeproxy.bash"
put 644 "$ZSHDIR" _acmeproxy <"$DIST/completions/_acmeproxy"
put 644 "$FISHDIR" acmeproxy.fish <"$DIST/completions/acmeproxy.fish"
for unit in contrib/systemd/*.service; do
	name=${unit##*/}
	sed "s|/usr/local/bin/|$BINDIR/|g" "$unit" | put 644 "$UNITDIR" "$name"
	if [ -z "$DESTDIR" ] && [ "$UNITDIR" != /etc/systemd/system ] && [ -e "/etc/systemd/system/$name" ]; then
		echo "/etc/systemd/system/$name overrides the installed unit; remove it" >&2
	fi
done
for hook in certbot-hook dehydrated-hook uacme-hook acme.sh-hook; do
	case $hook in
	acme.sh-hook) mode=644 ;; # acme.sh reads it
	*) mode=755 ;;
	esac
	sed "s|/usr/local/bin|$BINDIR|g; s|/usr/local/lib/acmeproxy|$HOOKDIR|g" "contrib/challenge-only/$hook" | put "$mode" "$HOOKDIR" "$hook"
done
case "$UNITDIR" in
/etc/systemd/* | /usr/lib/systemd/* | /usr/local/lib/systemd/* | /lib/systemd/*) ;;
*) echo "systemd does not read $UNITDIR; to use the units, add UNITDIR=/etc/systemd/system" >&2 ;;
esac
if [ -z "$DESTDIR" ] && [ -d /run/systemd/system ]; then
	echo "now run: systemctl daemon-reload" >&2
fi
