#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Inside dom0's root: what a layer needs of the packages of a kernel and its headers, which are
# unpacked in /layer/packages.
set -eu
cd /layer
from=packages/usr
mkdir -p boot usr/lib
mv $from/src usr/src
# In one folder, which is shown to a build: the root has none of this name in /usr/lib.
for kbuild in "$from"/lib/linux-kbuild-*; do
	name=${kbuild##*/}
	rm -f "usr/src/$name"
	mv "$kbuild" usr/src/
	ln -s "../src/$name" "usr/lib/$name"
	for folder in usr/src/linux-headers-*; do
		for link in scripts tools; do
			[ ! -L "$folder/$link" ] || ln -sfn "../$name/$link" "$folder/$link"
		done
	done
done
mv $from/lib/modules usr/lib/modules
for tree in usr/lib/modules/*; do
	kernel=${tree##*/}
	# Where the package has it: newer ones with the modules.
	for image in "packages/boot/vmlinuz-$kernel" "$tree/vmlinuz"; do
		[ ! -e "$image" ] || mv "$image" "boot/vmlinuz-$kernel"
	done
	ln -s usr/lib lib
	depmod -b /layer "$kernel"
	rm lib
done
