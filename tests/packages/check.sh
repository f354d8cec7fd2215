#!/bin/sh
# SPDX-License-Identifier: LGPL-2.1-or-later
# check.sh REPOSITORY [short]: install the packages that are there with apt, try them, purge them; what
# the host has afterwards must be what it had before. In short, without kernels that come and go.
set -eu
repository=$1
kernels=${2:-long}
export DEBIAN_FRONTEND=noninteractive
# Nothing here boots, and an initrd takes a minute.
export INITRD=No
log=/srv/log

quietly() {
	"$@" > "$log" 2>&1 || { tail -n 60 "$log"; echo "failed: $*"; exit 1; }
}
listed() {
	# Caches, logs and the package manager's own state are nobody's remains.
	find / -xdev \( -path /proc -o -path /sys -o -path /dev -o -path /run -o -path /tmp -o -path /srv \
		-o -path /var/cache -o -path /var/log -o -path /var/lib/apt -o -path /var/lib/dpkg \
		-o -path /root \) -prune -o -print | grep -v -e __pycache__ | sort
}
expect() {
	[ "$2" = "$3" ] || { echo "$1: expected $3, found $2"; exit 1; }
}

built() {
	find "/lib/modules/$1/" -name 'xen_mtwatch.ko*' | wc -l
}
# A package of headers that nothing can be compiled with; its script is that of Debian's.
broken_headers() {
	tree=/srv/broken
	build=$tree/usr/lib/modules/$1/build
	mkdir -p "$tree/DEBIAN" "$build/include"
	printf 'modules:\n\t@echo it has changed too much; false\n' > "$build/Makefile"
	printf 'CONFIG_%s=y\n' XEN_DOM0 XEN_BACKEND KALLSYMS_ALL DYNAMIC_FTRACE_WITH_ARGS > "$build/.config"
	printf '%s\n' "Package: linux-headers-$1" "Version: 1" "Architecture: all" \
		"Maintainer: nobody <nobody@xlmt.invalid>" "Description: headers of no kernel" > "$tree/DEBIAN/control"
	printf '#!/bin/sh\nset -e\nrun-parts --report --exit-on-error --arg=%s /etc/kernel/header_postinst.d\n' "$1" \
		> "$tree/DEBIAN/postinst"
	chmod 755 "$tree/DEBIAN/postinst"
	dpkg-deb --build "$tree" "/srv/linux-headers-$1.deb" > "$log"
}

kernels_come_and_go() {
	# A new kernel: the hooks that a package of headers, or of a kernel, has run build the module.
	real=$(find /lib/modules/ -name build | head -n 1 | cut -d/ -f4)
	dkms unbuild "xen_mtwatch/$module" -k "$real" > "$log" 2>&1
	quietly apt-get install -qy --reinstall "linux-headers-$real"
	expect "modules of the new kernel" "$(built "$real")" 1
	# What is left of a kernel that another one of its name replaces.
	run-parts --arg="$real" /etc/kernel/preinst.d > "$log" 2>&1
	expect "modules of the replaced kernel" "$(built "$real")" 0
	run-parts --arg="$real" /etc/kernel/postinst.d > "$log" 2>&1
	expect "modules of the kernel in its place" "$(built "$real")" 1

	# One that the module cannot be built for. Its package is configured all the same, and ours.
	broken=6.99.0-broken
	broken_headers "$broken"
	quietly apt-get install -qy "/srv/linux-headers-$broken.deb"
	grep "^xen_mtwatch could not be built for Linux $broken: " "$log"
	quietly apt-get install -qy --reinstall xen-mtwatch-dkms
	grep -q "^xen_mtwatch could not be built for Linux $broken: " "$log"
	expect "modules of the other kernel" "$(built "$real")" 1
	# The witness: left to dkms's own hook, as most modules are, it stops apt.
	conf=/usr/src/xen_mtwatch-$module/dkms.conf
	echo 'AUTOINSTALL="yes"' >> "$conf"
	! apt-get install -qy --reinstall "/srv/linux-headers-$broken.deb" > "$log" 2>&1 ||
		{ echo "dkms does not fail with that kernel; the test shows nothing"; exit 1; }
	grep '^run-parts: /etc/kernel/header_postinst.d/dkms exited ' "$log"
	sed -i '/^AUTOINSTALL=/d' "$conf"
	quietly dpkg --configure -a
	quietly apt-get purge -qy "linux-headers-$broken"
}

echo "deb [trusted=yes] file:$repository ./" > /etc/apt/sources.list.d/xlmt.list
quietly apt-get update
# As people install it: a module takes headers, and no package of Debian's own asks for them.
apt-get install -s xlmt xen-mtwatch-dkms | grep -q '^Inst linux-headers-amd64 '
# What they depend on comes first, so that what is left at the end is theirs alone. With headers,
# so that there is a kernel to build the module for, and with what setup finds: xl and cron.
apt-get install -s --no-install-recommends xlmt xen-mtwatch-dkms linux-headers-amd64 man-db \
	cron xen-utils-common |
	sed -n 's/^Inst \([^ ]*\).*/\1/p' | grep -vx -e xlmt -e xen-mtwatch-dkms > /srv/needed
quietly xargs -a /srv/needed apt-get install -qy --no-install-recommends
# Debian 12's headers come without the kernel, whose package would have had these lists made.
for kernel in /lib/modules/*; do
	[ -e "$kernel/modules.dep" ] || depmod "${kernel##*/}" 2> /dev/null
done
listed > /srv/before

begin=$(date +%s)
quietly apt-get install -qy --no-install-recommends xlmt xen-mtwatch-dkms
echo "apt install xlmt xen-mtwatch-dkms: $(($(date +%s) - begin)) s"
grep -i -e error -e warning "$log" || :

version=$(dpkg-query -Wf '${Version}' xlmt)
expect "xlmt --version" "$(xlmt --version)" "xlmt ${version%%~*}"
xlmt --help | grep -q '^  create '
for page in /usr/share/man/man*/xlmt*.gz /usr/share/man/man4/xen_mtwatch.4.gz; do
	page=${page##*/}
	section=${page%.gz}
	man -w "${section##*.}" "${section%.*}" > /dev/null
done
library=$(xlmt exec -- printenv LD_PRELOAD)
expect "the library" "$library" "$(dpkg -L xlmt | grep '/libxlmt-preload\.so$')"
expect "what under-hook preloads" "$(/usr/libexec/xlmt/under-hook printenv LD_PRELOAD)" "$library"
expect "files with another place for it" "$(grep -rl /usr/local/lib/xlmt /usr/share/xlmt || :)" ""
# As libvirtd is run by its drop-in; and what xapi's README has linked.
for program in under-hook xapi-hook complete; do
	test -x "/usr/libexec/xlmt/$program"
done
module=$(find /usr/src -maxdepth 1 -name 'xen_mtwatch-*' | sed 's/.*-//')
modules=$(find /lib/modules/ -name 'xen_mtwatch.ko*' | wc -l)
expect "modules built by DKMS" "$modules" "$(find /lib/modules -name build | wc -l)"

[ "$kernels" = short ] || kernels_come_and_go

xlmt setup --yes
expect "what is left to do" "$(xlmt setup --dry-run | tail -n 1 | grep -o '^nothing to do')" "nothing to do"
expect "xl" "$(grep -c /usr/libexec/xlmt/under-hook /usr/local/sbin/xl)" 1
cmp /usr/share/xlmt/hooks/cron/xlmt /etc/cron.d/xlmt

# An upgrade leaves that as it is.
quietly apt-get install -qy --reinstall xlmt xen-mtwatch-dkms
expect "what is left to do" "$(xlmt setup --dry-run | tail -n 1 | grep -o '^nothing to do')" "nothing to do"
# Where systemd runs, an upgrade stops neither the supervisor nor the timer; debian/xlmt.renew has the
# rest. The stand-ins write down what systemd is asked for.
mkdir -p /run/systemd/system
for program in systemctl deb-systemd-invoke; do
	printf '#!/bin/sh\necho "%s $*" >> /srv/calls\n' "$program" > "/usr/local/sbin/$program"
	chmod 755 "/usr/local/sbin/$program"
done
quietly apt-get install -qy -o DPkg::Path="$PATH" --reinstall xlmt
rm -r /run/systemd /usr/local/sbin/systemctl /usr/local/sbin/deb-systemd-invoke
expect "what systemd is asked for" "$(sort -u /srv/calls)" "systemctl --system daemon-reload"
# A drop-in that setup knows nothing of: libvirtd must not be left with one whose program is gone.
drop_in=/etc/systemd/system/libvirtd.service.d
mkdir -p "$drop_in"
cp /usr/share/xlmt/hooks/xl/libvirtd.conf "$drop_in/mine.conf"

# Still set up: the package has to undo that, or a host would be left with what cannot run.
quietly apt-get purge -qy xlmt xen-mtwatch-dkms
mv "$drop_in/mine.conf.disabled" /srv
rmdir "$drop_in"
rmdir --ignore-fail-on-non-empty /etc/systemd/system /etc/systemd
listed > /srv/after
diff /srv/before /srv/after || { echo "purged, but this differs"; exit 1; }
echo "purged; nothing is left"
