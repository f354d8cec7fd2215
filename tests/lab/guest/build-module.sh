#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Inside dom0's root: the modules in the folders below /src, for every kernel that is there, where
# modprobe finds them.
set -eu
for tree in /usr/lib/modules/*; do
	kernel=${tree##*/}
	modules=/layer/usr/lib/modules/$kernel
	mkdir -p "$modules/updates"
	for folder in /src/*/; do
		build=/tmp/$kernel/${folder#/src/}
		mkdir -p "$build"
		cp -r "$folder/." "$build"
		make -s -C "$tree/build" "M=${build%/}" modules
		cp "$build"/*.ko "$modules/updates/"
	done
	# depmod wants the whole tree in one place; only its tables are kept.
	cp "$tree"/modules.order "$tree"/modules.builtin* "$modules/"
	ln -s "$tree/kernel" "$modules/kernel"
	ln -s usr/lib /layer/lib
	depmod -b /layer "$kernel"
	rm "$modules/kernel" /layer/lib
done
