#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# Inside dom0's root: /src becomes a wheel, the wheel becomes a layer over /opt/xlmt.
set -eu
cd /src
/opt/build/bin/pip wheel -q --no-build-isolation --no-deps -w /tmp/wheel .
mkdir -p /layer/opt/xlmt /layer/usr/local/bin /layer/usr/local/share/man
/opt/build/bin/pip --python /opt/xlmt/bin/python install -q --no-deps --prefix /layer/opt/xlmt /tmp/wheel/*.whl
for program in /layer/opt/xlmt/bin/*; do
	ln -s "/opt/xlmt/bin/${program##*/}" /layer/usr/local/bin/
done
mkdir -p /layer/usr/local/share/xlmt
cp -r /layer/opt/xlmt/share/man /layer/usr/local/share/
cp -r hooks /layer/usr/local/share/xlmt/
