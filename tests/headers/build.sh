#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build.sh CODENAME, as root in a root of that release that is thrown away afterwards: build the
# module against the headers of its kernel and of the newest in its backports, amd64's and arm64's.
set -eu
codename=$1
export DEBIAN_FRONTEND=noninteractive

quietly() {
	"$@" > /tmp/log 2>&1 || { cat /tmp/log >&2; exit 1; }
}

# What dkms.conf asks of a kernel: others are not built for.
excluded() {
	sed -n 's/^BUILD_EXCLUSIVE_CONFIG="\(.*\)"$/\1/p' kernel/dkms.conf | tr ' ' '\n' |
	while read -r option; do
		grep -q "^$option=y$" "$1/.config" || echo "$option"
	done
}

build() {
	headers=$1 arch=$2 cross=$3
	missing=$(excluded "$headers")
	if [ -n "$missing" ]; then
		echo "${headers##*/}: not built, as DKMS would not: no $missing"
		return
	fi
	rm -rf /tmp/module
	cp -r kernel /tmp/module
	make -s -C "$headers" M=/tmp/module W=1 ARCH="$arch" CROSS_COMPILE="$cross" modules \
		> /tmp/log 2>&1 || true
	# The kernel's own picture (BTF) needs its image, which headers do not bring.
	grep -v 'Skipping BTF generation' /tmp/log || true
	if grep -q '[Ww]arning\|[Ee]rror' /tmp/log || [ ! -e /tmp/module/xen_mtwatch.ko ]; then
		echo "${headers##*/}: FAILED"
		failed=1
	else
		echo "${headers##*/}: ok"
	fi
}

# arm64's headers ask for arm64's own compiler. The tools that they bring for a build are amd64's,
# which are there already.
unpack_arm64() {
	(
		cd /tmp
		quietly apt-get download "$@" linux-headers-arm64:arm64
		name=$(dpkg-deb -f linux-headers-arm64_*.deb Depends | grep -o 'linux-headers-[^ ]*')
		quietly apt-get download "$@" "$name:arm64"
		dpkg-deb --fsys-tarfile "$name"_*.deb | tar -x -C / ./usr/src
		rm -- *.deb
	)
}

failed=
dpkg --add-architecture arm64
for suite in '' "$codename-backports"; do
	test -z "$suite" || sed -n "s/ $codename / $suite /p" /etc/apt/sources.list \
		> /etc/apt/sources.list.d/backports.list
	quietly apt-get update -q
	quietly apt-get install -qy --no-install-recommends ${suite:+-t "$suite"} make gcc libc6-dev \
		perl python3 gcc-aarch64-linux-gnu linux-headers-amd64
	unpack_arm64 ${suite:+-t "$suite"}
done
for headers in /usr/src/linux-headers-*-amd64; do
	build "$headers" x86_64 ''
done
for headers in /usr/src/linux-headers-*-arm64; do
	build "$headers" arm64 aarch64-linux-gnu-
done
test -z "$failed"
