#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# chroot.sh ROOT [OUTSIDE=INSIDE]... -- SCRIPT
# Runs SCRIPT (a file out here) inside ROOT, read-only but for the folders bound in. Meant to be
# run in a mount namespace of its own: it mounts and does not clean up.
set -eu
root=$1
shift
mount --bind "$root" "$root"
mount -o remount,bind,ro "$root"
mount -t proc proc "$root/proc"
mount -t tmpfs tmp "$root/tmp"
while [ "$1" != -- ]; do
	mount --bind "${1%%=*}" "$root${1#*=}"
	shift
done
cp "$2" "$root/tmp/step.sh"
exec env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/tmp LC_ALL=C.UTF-8 \
	PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INDEX=1 PIP_FIND_LINKS=/wheels \
	chroot "$root" sh -eu /tmp/step.sh
