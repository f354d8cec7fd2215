#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build-packages.sh REPOSITORY: in a checkout, build its packages once, untried, and apt's index.
# What tries them, twice built and compared, is tests/packages.
set -eu
export DEB_BUILD_OPTIONS=nocheck
dpkg-buildpackage --no-sign -b > ../log 2>&1 || { tail -n 60 ../log; exit 1; }
mkdir -p "$1"
mv ../*.deb "$1"
cd "$1"
dpkg-scanpackages -m . > Packages
