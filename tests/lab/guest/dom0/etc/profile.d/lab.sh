# SPDX-License-Identifier: LGPL-2.1-or-later
# shellcheck shell=sh
PS1='dom0# '
cat <<'T'

A Xen host with xlmt, in an emulator. Nothing you do here outlasts it. Try

  xlmt create /etc/xen/demo-pv.cfg     a guest; its mtwatch node is written first
  xlmt list                            what there is, and its state
  xenstore-ls -f /local/domain/0/mtwatch
  xl console demo-pv                   leave it with Ctrl-]
  xlmt destroy demo-pv                 its mtwatch node is removed last
  poweroff                             to leave

T
