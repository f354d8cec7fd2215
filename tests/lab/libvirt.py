# SPDX-License-Identifier: LGPL-2.1-or-later
"""libvirt's own daemon in dom0, run by hand: there is no systemd to do it, and no D-Bus."""

from contextlib import ExitStack
from typing import Self

from tests.lab.vm import Lab

NAME = "demo-libvirt"
XML = f"/etc/xen/{NAME}.xml"
HOOKS = "/etc/libvirt/hooks/libxl.d"  # read when the daemon starts
PID = "/run/libvirtd.pid"
LOG = "/var/log/libvirt/libvirtd.log"
STATE = "/run/libvirt /etc/libvirt/libxl /var/lib/libvirt"


class Libvirtd:
    """libvirtd, `under` another program or by itself. Needs a Lab; leaves it as it was.

    Entering starts it and tells it of the guest NAME, which does not run yet.
    """

    def __init__(self, lab: Lab, under: str = "") -> None:
        self._lab = lab
        self._command = f"{under} libvirtd -d -p {PID}"

    def __enter__(self) -> Self:
        with ExitStack() as held:
            held.callback(self._clean_up)
            self.start()
            self.virsh(f"define {XML}")
            self._held = held.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._held.close()

    def start(self) -> None:
        """Return when it answers. The guests that ran under an earlier one are its own again."""
        self._lab.run(f"mkdir -p $(dirname {LOG}); {self._command}", check=True)
        self.virsh("version")

    def stop(self) -> None:
        """End it; guests go on."""
        self._lab.run(f"kill $(cat {PID})")
        self._lab.wait_for("! pgrep -x libvirtd")

    def virsh(self, command: str, timeout: float = 120.0) -> str:
        """What virsh says. Raises CommandFailed."""
        return self._lab.run(f"virsh -q -c xen:///system {command}", timeout, check=True).out

    def _clean_up(self) -> None:
        # Whatever the test did: guests first, as a daemon that starts later would take them over.
        self._lab.run(f"virsh -c xen:///system destroy {NAME}", 120)
        self.stop()
        self._lab.run(f"rm -rf {STATE} {HOOKS}", check=True)
