#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mmdebstrap's last step, run outside the new root: ROOT XENDOMS.C
# Adds Xen and the kernels by unpacking only: installing them would run grub and initramfs-tools.
set -eu
root=$1
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp" # for apt's unprivileged download user

cd "$tmp"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
apt-get download -q xen-hypervisor-4.17-amd64
# linux-headers-* made a folder for each kernel.
for modules in "$root"/usr/lib/modules/*; do apt-get download -q "linux-image-${modules##*/}"; done
for package in ./*.deb; do dpkg-deb -x "$package" files; done
# No machine that the lab boots has hardware for these, which are most of the modules' size.
for what in sound drivers/gpu drivers/media drivers/infiniband drivers/iio drivers/usb \
	drivers/scsi drivers/net/wireless drivers/net/ethernet; do
	rm -rf files/lib/modules/*/kernel/"$what"
done
# Copied, not unpacked in place: the packages' /lib must not replace the root's link.
cp -a files/boot/. "$root/boot/"
cp -a files/lib/modules/. "$root/usr/lib/modules/"
gunzip -k "$root/boot/xen-4.17-amd64.gz"
for modules in "$root"/usr/lib/modules/*; do chroot "$root" depmod "${modules##*/}"; done

cp "$2" "$root/tmp/xendoms.c"
chroot "$root" gcc -O2 -Wall -Wextra -Werror -o /usr/local/bin/xendoms /tmp/xendoms.c -lxenctrl
rm "$root/tmp/xendoms.c"
# Mount points, as the root is read-only from here on.
mkdir -p "$root/opt/xlmt" "$root/opt/build" "$root/src" "$root/wheels" "$root/layer"
