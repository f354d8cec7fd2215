#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mmdebstrap's last step, run outside the new root: ROOT XENDOMS.C
# Adds Xen and the kernel by unpacking only: installing them would run grub and initramfs-tools.
set -eu
root=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # for apt's unprivileged download user

# Of the version that the release has: that of its tools, and that of its headers.
set -- "$2" "$root"/usr/lib/xen-[0-9]* "$root"/usr/lib/modules/*
[ $# = 3 ] || { echo "not one Xen and one kernel: $*"; exit 1; }
xen=${2##*/xen-}
kernel=${3##*/}
cd "$tmp"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get download -q "xen-hypervisor-$xen-amd64" "linux-image-$kernel"
for package in ./*.deb; do dpkg-deb -x "$package" files; done
[ ! -d files/lib ] || cp -a files/lib files/usr/
modules=files/usr/lib/modules/$kernel
# No machine that the lab boots has hardware for these, which are most of the modules' size.
for what in sound drivers/gpu drivers/media drivers/infiniband drivers/iio drivers/usb \
	drivers/scsi drivers/net/wireless drivers/net/ethernet; do
	rm -rf "$modules/kernel/$what"
done
# Copied, not unpacked in place: a package's /lib must not replace the root's link.
cp -a files/boot/. "$root/boot/"
cp -a "$modules/." "$root/usr/lib/modules/$kernel/"
gunzip -c "$root/boot/xen-$xen-amd64.gz" > "$root/boot/xen"
chroot "$root" depmod "$kernel"

cp "$1" "$root/tmp/xendoms.c"
chroot "$root" gcc -O2 -Wall -Wextra -Werror -o /usr/local/bin/xendoms /tmp/xendoms.c -lxenctrl
rm "$root/tmp/xendoms.c"
# Mount points, as the root is read-only from here on.
mkdir -p "$root/opt/xlmt" "$root/opt/build" "$root/src" "$root/wheels" "$root/layer"
