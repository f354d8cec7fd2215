#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# build.sh REPOSITORY [nocheck]: in a checkout, build its packages twice, once with the unit tests; the
# bytes must be the same, and lintian content. They, a source archive, a wheel and apt's index go to
# REPOSITORY.
set -eu
repository=$1
export DEB_BUILD_OPTIONS="${2-}"
checkout=$PWD
mkdir -p "$repository"

build() {
	mkdir -p "$1"
	cp -r "$checkout" "$1/xlmt"
	cd "$1/xlmt"
	dpkg-buildpackage --no-sign -I.git > ../log 2>&1 || { tail -n 60 ../log; exit 1; }
	grep -E '^=+ .* (passed|failed|error).* =+$|^[0-9]+ passed' ../log || :
	cd ..
}
build /build/one
export DEB_BUILD_OPTIONS=nocheck
# In a folder of another name, by a clock that goes on: neither may be in what is built.
build /build/another/place

for file in /build/one/*.deb /build/one/*.tar.xz; do
	cmp "$file" "/build/another/place/${file##*/}"
done
cp /build/one/*.deb /build/one/*.tar.xz /build/one/*.dsc "$repository"

cd /build/one
library=$(dpkg-deb -c xlmt_*.deb | sed -n 's/.* \.\(\/.*libxlmt-preload.so\)$/\1/p')
dpkg-deb -x xlmt_*.deb unpacked
readelf -lW "unpacked$library" | grep -q GNU_RELRO
readelf -dW "unpacked$library" | grep -q BIND_NOW

# One debian/ is for two releases, and names the newest version of the policy that both know; and where
# systemd does not run, `xlmt create` starts the supervisor, so that it needs no init script. A release's
# lintian ends at a tag that it does not know.
for tag in out-of-date-standards-version package-supports-alternative-init-but-no-init.d-script; do
	! lintian-explain-tags --list-tags | grep -qx "$tag" || suppressed="${suppressed:+$suppressed,}$tag"
done
lintian --fail-on error,warning,info --display-info --allow-root --suppress-tags "$suppressed" ./*.changes

cd xlmt
python3 -m build --no-isolation --skip-dependency-check --outdir "$repository" > ../log 2>&1 ||
	{ tail -n 60 ../log; exit 1; }
# Nobody misses a file who has the source archive in place of a checkout.
cd ..
(cd "$checkout" && find . -path ./.git -prune -o ! -type d -print | sed 's|^\./||' | sort) > sources
tar -tzf "$repository"/xlmt-*.tar.gz | sed -n 's|^[^/]*/\(.*[^/]\)$|\1|p' | sort > archived
missing=$(comm -23 sources archived)
[ -z "$missing" ] || { echo "the source archive lacks" "$missing"; exit 1; }

cd "$repository"
apt-ftparchive packages . > Packages 2> /dev/null || dpkg-scanpackages -m . > Packages
ls -l
