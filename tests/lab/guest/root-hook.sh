#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mmdebstrap's last step, run outside the new root: ROOT XENDOMS.C
# Adds Xen and the kernel by unpacking only: installing them would run grub and initramfs-tools.
set -eu
root=$1
kernel=$(ls "$root/usr/lib/modules") # linux-headers-amd64 made exactly one folder there
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # for apt's unprivileged download user

cd "$tmp"
APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download -q xen-hypervisor-4.17-amd64 "linux-image-$kernel"
for package in ./*.deb; do dpkg-deb -x "$package" files; done
# Copied, not unpacked in place: the packages' /lib must not replace the root's link.
cp -a files/boot/. "$root/boot/"
cp -a files/lib/modules/. "$root/usr/lib/modules/"
gunzip -k "$root/boot/xen-4.17-amd64.gz"
chroot "$root" depmod "$kernel"

cp "$2" "$root/tmp/xendoms.c"
chroot "$root" gcc -O2 -Wall -Wextra -Werror -o /usr/local/bin/xendoms /tmp/xendoms.c -lxenctrl
rm "$root/tmp/xendoms.c"
# Mount points, as the root is read-only from here on.
mkdir -p "$root/opt/xlmt" "$root/opt/build" "$root/src" "$root/wheels" "$root/layer"
