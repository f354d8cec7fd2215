#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# mmdebstrap's last step for a root that systemd boots, run outside of it: ROOT UNITS
# Adds what the lab itself needs there, and an empty disk, on which what that host writes outlasts a
# boot.
set -eu
root=$1
cp -r "$2/." "$root/"
systemctl() { chroot "$root" systemctl "$@" > /dev/null 2>&1; }
systemctl enable lab-host lab-agent
# libvirtd's unit conflicts with that of /etc/xen/auto: a host has one of the two.
systemctl disable libvirtd.service libvirtd.socket libvirtd-ro.socket libvirtd-admin.socket libvirt-guests
# Nothing that a host of an hour needs, each some seconds of an emulator's time.
systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	man-db.timer fstrim.timer e2scrub_reap.service systemd-timesyncd.service getty@tty1.service \
	nbd-server.service
# Nor is anything to be made anew because /usr has changed.
touch "$root/etc/.updated" "$root/var/.updated"
echo 6c61622d646f6d302d73797374656d64 > "$root/etc/machine-id"
echo lab > "$root/etc/hostname"
rm -f "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d/*
echo 'deb [trusted=yes] file:/srv/repository ./' > "$root/etc/apt/sources.list.d/xlmt.list"
truncate -s 3G "$root/disk.img"
chroot "$root" mke2fs -q -t ext4 /disk.img
