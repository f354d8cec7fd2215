#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
# Inside a root with a kernel's build tools: Linux from /source with what is in /recipe, built in
# /build, installed in /layer with what it takes to build modules for it.
set -eu
cd /build
tar -xJf /source/linux-source-*.tar.xz --strip-components=1
for patch in /recipe/patches/*; do patch -s -p1 < "$patch"; done
make -s KCONFIG_ALLCONFIG=/recipe/config allnoconfig
# An option whose dependencies are not met is dropped without a word.
grep '^CONFIG_' /recipe/config | while read -r line; do
	grep -qxF "$line" .config || { echo "not possible: $line"; exit 1; }
done
nice make -s -j"$(nproc)" bzImage modules

release=$(cat include/config/kernel.release)
tree=/layer/usr/lib/modules/$release
mkdir -p /layer/boot
cp arch/x86/boot/bzImage "/layer/boot/vmlinuz-$release"
make -s INSTALL_MOD_PATH=/layer/usr modules_install
rm -f "$tree/build" "$tree/source"
mkdir "$tree/build"
cp -r --parents Makefile .config Module.symvers scripts include \
	arch/x86/Makefile arch/x86/Makefile_32.cpu arch/x86/include tools/objtool/objtool "$tree/build/"
