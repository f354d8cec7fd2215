# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest whose bootloader takes as long as a test wants it to."""

from __future__ import annotations

from typing import Any

from tests.stack.stack import Stack

_BOOTLOADER = """\
#!/bin/sh
trap '{on_term}' TERM
touch {runs}
# It is told where to write, as --output=FILE, what of the disk is to be booted.
while [ -e {hangs} ]; do sleep 0.2; done
for word; do
	case $word in --output=*) printf 'kernel /etc/hostname\\n\\0' > "${{word#*=}}" ;; esac
done
"""
#: As Xen's scripts that attach a disk, so that domain 0 has it for the bootloader; then the guest.
_BLOCK = """\
#!/bin/sh
[ "$1" = add ] || exit 0
case $XENBUS_PATH in
*/0/*) while [ -e {attaches} ]; do sleep 0.2; done ;;
*) while [ -e {starts} ]; do sleep 0.2; done ;;
esac
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"""


class Bootloader:
    """A program of the stack's workdir; `on_term` is what sh does there at a SIGTERM.

    For as long as they are there, the file `attaches` keeps its disk from being attached to domain
    0, then `hangs` the program from its end, and then `starts` the disk from the guest itself. The
    file `runs` is there once the program was started.
    """

    def __init__(self, stack: Stack, *, on_term: str = "-") -> None:
        names = ("bootloader", "block", "hangs", "attaches", "starts", "runs")
        files = {name: stack.workdir / name for name in names}
        self.program, script, self.hangs, self.attaches, self.starts, self.runs = files.values()
        self.program.write_text(_BOOTLOADER.format(on_term=on_term, **files))
        script.write_text(_BLOCK.format(**files))
        for file in (self.program, script):
            file.chmod(0o755)
        #: The guest's, for `Stack.guest`.
        self.settings: dict[str, Any] = {
            "bootloader": str(self.program),
            "disk": [f"vdev=xvda,script={script},target=any"],
        }


def has_disk(stack: Stack, domid: int = 0) -> bool:
    """Whether the domain has the disk; domain 0 has it for the bootloader."""
    with stack.client() as client:
        return client.exists(f"/local/domain/0/backend/vbd/{domid}/51712")
