#!/bin/bash
# fetch.sh SUITE DIR MIRROR PACKAGES: the packages of a Debian release with all that they depend on, unpacked
# and not configured. For "kernel" as the packages: the newest kernel of the release alone, with modules.dep.
set -euo pipefail
suite=$1 dir=$2 mirror=$3 packages=$4
export PATH=$PATH:/usr/sbin:/sbin # depmod, mke2fs

options=(--mode=root --format=directory --aptopt='APT::Install-Recommends "false"')
for unused in doc man locale info; do
	options+=(--dpkgopt="path-exclude=/usr/share/$unused/*")
done
if [ "$suite" = forky ]; then
	# A testing suite's InRelease may have run out; its signature is checked all the same.
	options+=(--aptopt='Acquire::Check-Valid-Until "false"')
fi

# The name of the package changes with each kernel; the package of the stable name depends on it, and
# on what makes an initramfs. From some release on, image and modules are packages of their own.
# shellcheck disable=SC2016  # $1 belongs to the hook, not to this script
kernel='
set -eu
cd "$1"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
names=$(apt-get -qq -s -o Debug::NoLocking=1 install linux-image-cloud-amd64 |
	awk '\''$1 == "Inst" && $2 ~ /^linux-(image|binary|modules)-[0-9]/ { print $2 }'\'')
apt-get -q download $names
for deb in *.deb; do
	dpkg-deb -x "$deb" .
	rm "$deb"
done
rm -rf usr/share
'
if [ "$packages" = kernel ]; then
	options+=(--variant=custom --customize-hook="$kernel")
else
	options+=(--variant=extract --include="$packages")
fi

# Under a hidden name: what is old in the cache is removed, and a package brings old times along.
part=$(dirname "$dir")/.part-$(basename "$dir")
trap 'rm -rf "$part"' EXIT
rm -rf "$part"
mmdebstrap "${options[@]}" "$suite" "$part" "deb $mirror $suite main"
if [ "$packages" = kernel ]; then
	base=$part/usr
	[ ! -d "$part/lib" ] || base=$part
	depmod -b "$base" "$(ls "$base/lib/modules")"
fi
touch "$part"
mv "$part" "$dir"
