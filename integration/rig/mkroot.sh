#!/bin/bash
# mkroot.sh SUITE OUT.tar MIRROR PACKAGES: a minimal Debian root with systemd, as a tarball.
#
# What runs at boot is kept small, so that a container is up in a second: units that need hardware, a
# terminal or the network are masked, and the packaged services wait until a test starts them.
set -euo pipefail
suite=$1 out=$2 mirror=$3 packages=$4

aptopts=(--aptopt='APT::Install-Recommends "false"')
if [ "$suite" = forky ]; then
	# A testing suite's InRelease may have run out; its signature is checked all the same.
	aptopts+=(--aptopt='Acquire::Check-Valid-Until "false"')
fi

# shellcheck disable=SC2016  # $1 belongs to the hook, not to this script
customize='
set -eu
chroot "$1" systemctl disable nginx.service ssh.service >/dev/null 2>&1
rm -f "$1"/etc/systemd/system/multi-user.target.wants/*.service "$1"/etc/systemd/system/timers.target.wants/*
for u in systemd-modules-load systemd-firstboot systemd-udevd console-getty getty@ serial-getty@ \
         systemd-journal-catalog-update ldconfig systemd-hwdb-update e2scrub_reap systemd-networkd-wait-online; do
	ln -sf /dev/null "$1/etc/systemd/system/$u.service"
done
mkdir -p "$1/etc/systemd/system.conf.d" "$1/etc/systemd/journald.conf.d"
printf "[Manager]\nDefaultTimeoutStopSec=10s\n" >"$1/etc/systemd/system.conf.d/rig.conf"
printf "[Journal]\nStorage=volatile\nRateLimitIntervalSec=0\n" >"$1/etc/systemd/journald.conf.d/rig.conf"
echo rig >"$1/etc/hostname"
rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/* "$1"/etc/apt/sources.list* "$1"/var/log/*.log
'

trap 'rm -f "$out.part"' EXIT
mmdebstrap --variant=essential --mode=root --format=tar \
	--include="$packages" "${aptopts[@]}" \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	--dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
	--dpkgopt='path-exclude=/usr/lib/*/libLLVM*' --dpkgopt='path-exclude=/usr/lib/*/libz3*' \
	--dpkgopt='path-exclude=/usr/lib/postgresql/*/bitcode/*' --dpkgopt='path-exclude=/usr/bin/promtool' \
	--dpkgopt='path-exclude=/usr/share/javascript/*' \
	--customize-hook="$customize" \
	"$suite" "$out.part" "deb $mirror $suite main"
mv "$out.part" "$out"
