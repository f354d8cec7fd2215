#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# enter.sh ROOT FOLDER COMMAND...: become the first process of ROOT and run COMMAND in its FOLDER.
# Its caller has given it mount and pid namespaces of its own.
set -eu
root=$1
mount --make-rprivate /
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
mount -t sysfs sys "$root/sys"
mount -t tmpfs -o mode=755 dev "$root/dev"
for name in null zero full random urandom tty; do
	touch "$root/dev/$name"
	mount --bind "/dev/$name" "$root/dev/$name"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 shm "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
ln -s fd/0 "$root/dev/stdin"
ln -s fd/1 "$root/dev/stdout"
ln -s fd/2 "$root/dev/stderr"
mount -t tmpfs -o mode=755 run "$root/run"
mkdir "$root/run/lock"
# A bare chroot cannot make user namespaces, which tests do.
cd "$root"
pivot_root . .
umount -l .
cd "$2"
shift 2
# Not exec: whatever daemonises in here is reaped by this shell, as by a machine's init.
status=0
"$@" || status=$?
exit "$status"
