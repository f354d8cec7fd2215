#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mmdebstrap's last step, run outside the new root: ROOT XENDOMS.C
# Adds Xen by unpacking only: installing it would have grub with it.
set -eu
root=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # for apt's unprivileged download user

# Of the version that the release has: that of its tools, and that of its headers.
set -- "$2" "$root"/usr/lib/xen-[0-9]* "$root"/usr/lib/modules/*
[ $# = 3 ] || { echo "not one Xen and one kernel: $*"; exit 1; }
xen=${2##*/xen-}
cd "$tmp"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get download -q "xen-hypervisor-$xen-amd64"
dpkg-deb -x ./*.deb files
cp -a files/boot/. "$root/boot/"
gunzip -c "$root/boot/xen-$xen-amd64.gz" > "$root/boot/xen"

cp "$1" "$root/tmp/xendoms.c"
chroot "$root" gcc -O2 -Wall -Wextra -Werror -o /usr/local/bin/xendoms /tmp/xendoms.c -lxenctrl
rm "$root/tmp/xendoms.c"
# Mount points, as the root is read-only from here on.
mkdir -p "$root/opt/xlmt" "$root/opt/build" "$root/src" "$root/wheels" "$root/layer"
