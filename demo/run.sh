#!/bin/bash
# run.sh: the main job by hand, on real directories. A process runs on extensions
# and opens files in /etc, /usr and /opt without a pause, while new versions are
# renamed into place and reloaded. Ends with "failed lookups: 0 of N", or not with 0.
#
# All mounts are in a private mount namespace, all files on a tmpfs in it: nothing
# of it is to be seen from elsewhere, and all of it goes with the last process.
set -euo pipefail
cd "$(dirname "$0")/.."
export PATH=$PATH:/usr/sbin:/sbin
readonly reloads=${RELOADS:-20} extexec=$PWD/bin/extexec

die() {
	echo "demo: $*" >&2
	exit 1
}

if [ "${1-}" != inside ]; then
	[ "$(id -u)" = 0 ] || die "this needs root, for namespaces and mounts: sudo make demo"
	command -v unshare >/dev/null || die "this needs unshare: apt-get install util-linux"
	[ -x "$extexec" ] || die "bin/extexec is missing: make demo builds it"
	command -v "${GO:-go}" >/dev/null || die "this needs Go: https://go.dev/dl/"
	exec unshare --mount --propagation private "$0" inside
fi

# The service ends when this script does: its input is then at an end.
work=
service=
cleanup() {
	trap '' INT TERM HUP
	if [ -n "$service" ]; then
		exec {to}>&-
		wait "$service" 2>/dev/null || true
	fi
	cd /
	[ -z "$work" ] || umount "$work" 2>/dev/null || umount --lazy "$work" 2>/dev/null || true
	[ -z "$work" ] || rmdir "$work"
}
trap cleanup EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

work=$(mktemp --directory /tmp/extexec-demo.XXXXXX)
mount -t tmpfs -o mode=0755 extexec-demo "$work"
"${GO:-go}" build -buildvcs=false -o "$work/hammer" ./demo/hammer
cd "$work"

# version N: makes one version of the extension "web" aside, where nobody looks.
# It is sysext and confext in one, since it has both release files.
version() {
	local top=incoming/web_$1 class
	mkdir -p "$top"/etc/web "$top"/usr/share/web "$top"/opt/web
	for class in etc usr/lib; do
		mkdir -p "$top/$class/extension-release.d"
		echo ID=_any >"$top/$class/extension-release.d/extension-release.web"
	done
	echo "$1" | tee "$top"/etc/web/version "$top"/usr/share/web/version >"$top"/opt/web/version
}

# ask WORD: asks the service.
ask() {
	echo "$1" >&"$to"
	read -r -u "$from" answer || die "the service has ended"
}

say() { printf '%s\n' "$*"; }

mkdir incoming web.v
version 1
mv incoming/web_1 web.v/

say '$ extexec run --name demo --extension-directory web.v -- hammer ...'
coproc SERVICE {
	exec "$extexec" run --state-dir state --name demo --extension-directory web.v -- ./hammer \
		--version /etc/web/version /usr/share/web/version /opt/web/version \
		-- /etc/passwd /etc/web /usr/bin/env /usr/share /opt
}
service=$SERVICE_PID
exec {to}>&"${SERVICE[1]}" {from}<&"${SERVICE[0]}"
eval "exec ${SERVICE[1]}>&- ${SERVICE[0]}<&-"

show() {
	say "$1 process $service, $(tr '\0' ' ' <"/proc/$service/cmdline" | cut -d' ' -f1), reads version"
	set -- $answer
	say "          $1 in /etc/web/version, $2 in /usr/share/web/version, $3 in /opt/web/version"
}

ask read
[ "$answer" = "1 1 1" ] || die "the service reads versions $answer, not 1"
show 'before:  '
say
say "\$ mv incoming/web_N web.v/; extexec reload demo        (N = 2 to $((reloads + 1)))"
total=0
for ((n = 2; n <= reloads + 1; n++)); do
	version "$n"
	mv "incoming/web_$n" web.v/
	start=${EPOCHREALTIME/[.,]/}
	"$extexec" reload --state-dir state demo 2>reload.log || { cat reload.log >&2; die "reload $n failed"; }
	total=$((total + ${EPOCHREALTIME/[.,]/} - start))
	ask read
	[ "$answer" = "$n $n $n" ] || die "after the reload the service reads versions $answer, not $n"
done
say "$reloads reloads, each seen by the service; $((total / reloads)) us each, while it hammers"
say
show 'after:   '
say
say '$ extexec status demo'
"$extexec" status --state-dir state demo
say
[ ! -e /etc/web/version ] || die "/etc/web/version is to be seen outside the service"
say 'outside the service there is no /etc/web/version'
ask count
read -r failed opens rate <<<"$answer"
say "$rate opens per second"
say "failed lookups: $failed of $opens"
[ "$failed" = 0 ] && [ "$opens" -gt 0 ]
