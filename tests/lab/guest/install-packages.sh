#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# install-packages.sh ROOT REPOSITORY FOLDER: as an administrator installs them with apt, in a root
# over ROOT; what that writes is FOLDER/layer. Meant to be run in a mount namespace of its own.
# It takes a minute here, and more than ten in an emulator, which would compile the module.
set -eu
mkdir "$3/layer" "$3/work" "$3/root"
mount -t overlay -o "lowerdir=$1,upperdir=$3/layer,workdir=$3/work" root "$3/root"
mount -t proc proc "$3/root/proc"
mkdir -p "$3/root/srv/repository"
cp "$2"/* "$3/root/srv/repository/"
for command in 'update -q' 'install -qy --no-install-recommends xlmt xen-mtwatch-dkms'; do
	# shellcheck disable=SC2086
	env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		chroot "$3/root" apt-get $command
done
