#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Inside dom0's root: the module in /src/kernel, for the one kernel that is there, where modprobe
# finds it.
set -eu
kernel=$(ls /usr/lib/modules)
modules=/layer/usr/lib/modules/$kernel
make -s -C "/usr/lib/modules/$kernel/build" M=/src/kernel modules
mkdir -p "$modules/updates"
cp /src/kernel/*.ko "$modules/updates/"
# depmod wants the whole tree in one place; only its tables are kept.
cp "/usr/lib/modules/$kernel"/modules.order "/usr/lib/modules/$kernel"/modules.builtin* "$modules/"
ln -s "/usr/lib/modules/$kernel/kernel" "$modules/kernel"
ln -s usr/lib /layer/lib
depmod -b /layer "$kernel"
rm "$modules/kernel" /layer/lib
