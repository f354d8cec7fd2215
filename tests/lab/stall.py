# SPDX-License-Identifier: LGPL-2.1-or-later
"""A real stall of xenwatch, made with stock parts.

netback hands a guest's pages to dom0's network stack without copying, and cannot take a vif down
before they come back. So: the vif is on a bridge, the bridge's only other port is a dummy device
whose queue (netem) delays everything for 270 s, and a static forwarding entry sends the guest's
pings there. `destroy` then blocks the thread that handles the vif in xenvif_disconnect_queue,
until release() empties the queue.
"""

from contextlib import ExitStack
from typing import Self

from tests.lab.vm import Lab

SINK = """
ip link add sink0 type dummy
ip link set sink0 master br0 up
bridge fdb replace 02:00:00:00:00:09 dev sink0 master static
tc qdisc replace dev sink0 root netem delay 270s limit 100000
"""
# The vif's own count of packets that were lent out and have not come back.
LENT = """ethtool -S vif%d.0 | awk '/zerocopy_sent/ { lent += $2 }
    /zerocopy_(success|fail)/ { lent -= $2 } END { exit lent <= 0 }'"""


class Stall:
    """A guest that stalls whoever takes its vif down. Needs a Lab; leaves it as it was.

    Entering starts the guest `name` with `create` and returns once dom0 holds its packets:
    nothing is stalled yet. Destroy it, in the background, to begin the stall; then wait_begun().
    """

    def __init__(
        self, lab: Lab, create: str = "xl create /etc/xen/stall.cfg", name: str = "stall"
    ) -> None:
        self.name = name
        self._lab = lab
        self._create = create

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._clean_up)
            self._lab.run("modprobe -a dummy sch_netem", check=True)
            self._lab.run(f"set -e{SINK}", check=True)
            self._lab.run(self._create, 120, check=True)
            self.domid = int(self._lab.run(f"xl domid {self.name}", check=True).out)
            self._lab.wait_for(LENT % self.domid, 90)
            undo.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._clean_up()

    def stack(self, thread: str = "xenwatch") -> str:
        """The kernel stack of a thread that is in state D, empty when it is not (or not there)."""
        pid = f"$(pgrep -x {thread})"
        return self._lab.run(f"grep -q '^State:.D' /proc/{pid}/status && cat /proc/{pid}/stack").out

    def wait_begun(self, thread: str = "xenwatch", timeout: float = 60.0) -> str:
        """Wait until `thread` is caught in netback; returns its stack."""
        self._lab.wait_for(f"grep xenvif_disconnect /proc/$(pgrep -x {thread})/stack", timeout)
        return self.stack(thread)

    def release(self, timeout: float = 60.0) -> None:
        """End the stall: give the packets back, and wait until xenwatch is free."""
        self._lab.run("tc qdisc del dev sink0 root")
        self._lab.wait_for("! grep '^State:.D' /proc/$(pgrep -x xenwatch)/status", timeout)

    def _clean_up(self) -> None:
        # Whatever the test did: the queue first, or everything after it would hang.
        self.release()
        self._lab.run(f"xl destroy {self.name}", 90)
        self._lab.run("ip link del sink0")
