# SPDX-License-Identifier: LGPL-2.1-or-later
"""A guest whose bootloader takes as long as a test wants it to."""

from __future__ import annotations

from typing import Any

from tests.stack.stack import Stack

_BOOTLOADER = """\
#!/bin/sh
{trap}
touch {runs}
# It is told where to write, as --output=FILE, what of the disk is to be booted.
while [ -e {hangs} ]; do sleep 0.2; done
for word; do
	case $word in --output=*) printf 'kernel /etc/hostname\\n\\0' > "${{word#*=}}" ;; esac
done
"""
#: As Xen's scripts that attach a disk, so that domain 0 has it for the bootloader.
_BLOCK = """\
#!/bin/sh
[ "$1" = add ] || exit 0
sleep {attaches_s}
xenstore-write "$XENBUS_PATH/hotplug-status" connected
"""


class Bootloader:
    """A program of the stack's workdir; it hangs for as long as the file `hangs` is there.

    The file `runs` is there once it was started, when its disk has been attached to domain 0.
    """

    def __init__(self, stack: Stack, *, attaches_s: float = 0, heeds_term: bool = True) -> None:
        names = ("bootloader", "block", "hangs", "runs")
        program, script, self.hangs, self.runs = (stack.workdir / name for name in names)
        trap = "" if heeds_term else "trap '' TERM"
        program.write_text(_BOOTLOADER.format(hangs=self.hangs, runs=self.runs, trap=trap))
        script.write_text(_BLOCK.format(attaches_s=attaches_s))
        for file in (program, script):
            file.chmod(0o755)
        self._disk = f"vdev=xvda,script={script},target=any"
        self._program = program

    @property
    def settings(self) -> dict[str, Any]:
        """The guest's, for `Stack.guest`."""
        return {"bootloader": str(self._program), "disk": [self._disk]}


def is_left_attached(stack: Stack) -> bool:
    """Whether domain 0 still has the disk that a bootloader was to read."""
    with stack.client() as client:
        return client.exists("/local/domain/0/backend/vbd/0/51712")
