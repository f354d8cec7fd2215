# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
PS1='dom0# '
# The terminal's size, which a serial line does not tell.
size=$(sed -n 's/.* lab\.shell=\([0-9x]*\).*/\1/p' /proc/cmdline)
[ -z "$size" ] || stty rows "${size%x*}" cols "${size#*x}" 2> /dev/null
unset size
echo
echo 'A Xen host with xlmt, in an emulator. Nothing you do here outlasts it. Try'
echo
[ ! -d /run/systemd/system ] || cat << 'T'
  xlmt doctor                          what this host lacks: nothing is set up yet
  xlmt setup                           set it up, as on any host after apt install
T
cat << 'T'
  xlmt create /etc/xen/demo-pv.cfg     a guest; its mtwatch node is written first
  xlmt list                            what there is, and its state
  xenstore-ls -f /local/domain/0/mtwatch
  xl console demo-pv                   leave it with Ctrl-]
  xlmt destroy demo-pv                 its mtwatch node is removed last
  poweroff                             to leave

T
