# SPDX-License-Identifier: LGPL-2.1-or-later
"""Real stalls of xenwatch, made with stock parts: a driver waits for what dom0 does not give back.

Stall: netback hands a guest's pages to dom0's network stack without copying, and cannot take a vif
down before they come back. So: the vif is on a bridge, the bridge's only other port is a dummy
device whose queue (netem) sends a byte a second after 270 s, and a static forwarding entry sends
the guest's pings there. `destroy` then blocks the thread that handles the vif in
xenvif_disconnect_queue, until release() empties the queue.

DiskStall: blkback cannot take a disk down before its own thread has ended. That one is blocked in
blk_mq_get_tag when the disk has a queue of four requests, which are not merged, and ends none: it
is a loop device on a suspended device-mapper disk. The guest has eight writers, so that there are
always more than four. (On the suspended disk itself it would not be, as that only defers its
requests.) `destroy` then blocks the thread that handles the disk in blkback's remove(), until
release() resumes the disk.

The others differ in what holds the packets or the requests: a VLAN on a bond, a veth, a firewall
that is asked and does not answer, a server of a network disk that is stopped, a file system that is
frozen.

Of virtual cards, a macvtap whose program is stopped is one. With those of the emulator there is
none: e1000 and its like say of each packet at once that it is sent (read, in QEMU). virtio_net
keeps what its device has not taken, but where the peer knows nothing of checksums, as a socket or a
stream, it has no scatter-gather, and the kernel gives it copies (read). With a vhost-user peer that
takes nothing it has scatter-gather; but QEMU 10 said "unable to start vhost net: 22: falling back
on userspace virtio", and took the packets itself: of 140 that were lent 140 came back, none copied.
"""

from contextlib import ExitStack
from typing import ClassVar, Self

from tests.lab.vm import Lab

#: So few that a guest's writers use them up, none made one with another.
FEW_REQUESTS = """
        echo 4 > /sys/block/loop4/queue/nr_requests
        echo 2 > /sys/block/loop4/queue/nomerges
"""
AS_MANY_AS_BEFORE = """
        echo 128 > /sys/block/loop4/queue/nr_requests
        echo 0 > /sys/block/loop4/queue/nomerges
"""


#: Wait, half a minute, for a program that the set-up has started to say what it is ready by.
SAYS = """
        tries=0
        until grep {1} {0}; do
            tries=$((tries + 1))
            [ $tries -lt 60 ]
            sleep 0.5
        done
"""

#: How many packets the queue of an interface has.
QUEUED = "tc -s qdisc show dev {} | sed -n 's/.* \\([0-9]*\\)p .*/\\1/p'"


class Stall:
    """A guest that stalls whoever takes its vif down. Needs a Lab; leaves it as it was.

    Entering starts the guest `name` with `create` and returns once dom0 holds its packets:
    nothing is stalled yet. Destroy it, in the background, to begin the stall; then wait_begun().
    What dom0 holds of a guest that is `guarded` are copies, and there will be no stall.
    """

    NAME: ClassVar = "stall"
    WHERE: ClassVar = "the queue of a bridge port"
    KIND: ClassVar = "netback-inflight"  # doctor's word
    PLACE: ClassVar = "xenvif_disconnect"
    HOLDER: ClassVar = "sink0"  # what doctor is to name
    LEVEL: ClassVar = "packets"  # what it costs to release it
    FREED_BY: ClassVar = "ip link set dev sink0 down"  # which is what release does
    HELD: ClassVar = QUEUED.format("sink0")
    OUTLAST: ClassVar = True  # whether the packets outlast the guest's interface
    MODULES: ClassVar = "dummy sch_netem"
    SET_UP: ClassVar = """
        ip link add sink0 type dummy
        ip link set sink0 master br0 up
        bridge fdb replace 02:00:00:00:00:09 dev sink0 master static
        tc qdisc replace dev sink0 root netem delay 270s rate 8bit limit 100000
    """
    # The vif's own count of packets that were lent out and have not come back.
    LENT: ClassVar = """ethtool -S vif{domid}.0 | awk '/zerocopy_sent/ {{ lent += $2 }}
        /zerocopy_(success|fail)/ {{ lent -= $2 }} END {{ exit lent <= 0 }}'"""
    SPINNER: ClassVar = "vif{domid}[.].*-deall"
    RELEASE: ClassVar = "tc qdisc del dev sink0 root"
    TEAR_DOWN: ClassVar = "ip link del sink0"

    def __init__(
        self, lab: Lab, create: str = "", name: str = "", *, guarded: bool = False
    ) -> None:
        self.name = name or self.NAME
        self._lab = lab
        self._guarded = guarded
        self._create = create or f"xl create /etc/xen/{self.NAME}.cfg"

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            undo.callback(self._clean_up)
            self._lab.run(f"modprobe -a {self.MODULES}", check=True)
            self._lab.run(f"set -e{self.SET_UP}", check=True)
            self._lab.run(self._create, 120, check=True)
            self.domid = int(self._lab.run(f"xl domid {self.name}", check=True).out)
            self._lend()
            undo.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._clean_up()

    def stack(self, thread: str = "xenwatch") -> str:
        """The kernel stack of a thread that is in state D, empty when it is not (or not there)."""
        pid = f"$(pgrep -x {thread})"
        return self._lab.run(f"grep -q '^State:.D' /proc/{pid}/status && cat /proc/{pid}/stack").out

    def wait_begun(self, thread: str = "xenwatch", timeout: float = 60.0) -> str:
        """Wait until `thread` is caught in the driver; returns its stack."""
        self._lab.wait_for(f"grep {self.PLACE} /proc/$(pgrep -x {thread})/stack", timeout)
        return self.stack(thread)

    def cpu_time(self, seconds: int = 3) -> int:
        """The ticks, of a hundred a second, that the spinning thread runs in so many seconds."""
        spinner = f"/proc/$(pgrep '{self.SPINNER.format(domid=self.domid)}')/stat"
        ticks = f"awk '{{ print $14 + $15 }}' {spinner}"
        before, after = self._lab.run(f"{ticks}; sleep {seconds}; {ticks}", check=True).out.split()
        return int(after) - int(before)

    def release(self, timeout: float = 60.0) -> None:
        """End the stall: give back what was lent, and wait until xenwatch is free."""
        self._lab.run(self.RELEASE)
        self._lab.wait_for("! grep '^State:.D' /proc/$(pgrep -x xenwatch)/status", timeout)

    def held(self) -> int:
        """How many packets are where the guest's are kept."""
        return int(self._lab.run(self.HELD, check=True).out)

    def wait_more(self) -> None:
        """Until there are some more of them than now."""
        more = self.held() + 3
        self._lab.wait_for(f"[ $({self.HELD}) -ge {more} ]", 60)

    def _lend(self) -> None:
        lent = self.LENT.format(domid=self.domid)
        self._lab.wait_for(f"[ $({self.HELD}) -gt 0 ]" if self._guarded else lent, 90)

    def _clean_up(self) -> None:
        # Whatever the test did: the release first, or everything after it would hang.
        self.release()
        self._lab.run(f"xl destroy {self.name}", 90)
        self._lab.run(self.TEAR_DOWN)


class BondStall(Stall):
    """The same behind a VLAN on a bond.

    The bond is of a veth. A VLAN on a dummy device has none of the features that frames in pieces
    need: the kernel makes one piece of each, which is a copy, and nothing stays lent.
    """

    WHERE = "behind a VLAN on a bond"
    HOLDER = "out7"
    FREED_BY = "ip link set dev out7 down"
    HELD = QUEUED.format("out7")
    MODULES = "veth sch_netem bonding 8021q"
    SET_UP = """
        ip link add bond7 type bond
        ip link add out7 type veth peer name in7
        ip link set in7 up
        ip link set out7 master bond7
        ip link set bond7 up
        ip link add link bond7 name bond7.5 type vlan id 5
        ip link set bond7.5 master br0 up
        bridge fdb replace 02:00:00:00:00:09 dev bond7.5 master static
        tc qdisc replace dev out7 root netem delay 270s rate 8bit limit 100000
    """
    RELEASE = "tc qdisc del dev out7 root"
    TEAR_DOWN = "ip link del bond7.5; ip link del bond7; ip link del out7"


class VethStall(Stall):
    """The same in the queue of a veth, the other end of which is in a network namespace.

    What gets to that end has been copied: __dev_forward_skb() in net/core/dev.c.
    """

    WHERE = "a veth into another namespace"
    HOLDER = "out7"
    FREED_BY = "ip link set dev out7 down"
    HELD = QUEUED.format("out7")
    MODULES = "veth sch_netem"
    SET_UP = """
        ip netns add box
        ip link add out7 type veth peer name in7 netns box
        ip -n box link set in7 up
        ip link set out7 master br0 up
        bridge fdb replace 02:00:00:00:00:09 dev out7 master static
        tc qdisc replace dev out7 root netem delay 270s rate 8bit limit 100000
    """
    RELEASE = "tc qdisc del dev out7 root"
    TEAR_DOWN = "ip link del out7; ip netns del box"


class FirewallStall(Stall):
    """The same with a firewall that is asked about each frame, and does not read what it is asked.

    It wants to know nothing of what is in a frame; who wants that, as most do, gets a copy, and
    with it the frame itself becomes one: skb_zerocopy() in net/core/skbuff.c.
    """

    WHERE = "an nfqueue that nobody reads"
    HOLDER = "nfqueue 7"
    LEVEL = "nothing"
    FREED_BY = "ip link set dev vif{domid}.0 down"
    HELD = "awk '{ print $3 }' /proc/net/netfilter/nfnetlink_queue"
    MODULES = "dummy nf_tables nft_queue nfnetlink_queue"
    SET_UP = """
        ip link add sink0 type dummy
        ip link set sink0 master br0 up
        bridge fdb replace 02:00:00:00:00:09 dev sink0 master static
        setsid /opt/lab/nfqueue.py 7 > /run/nfqueue 2>&1 &
    """ + SAYS.format("/run/nfqueue", "asked")
    # First what it has been asked: with its rule gone, Linux 6.1 warns of each (nf_reinject). It is
    # dropped with one of its two interfaces, and some of it is from one guest to another.
    RELEASE = """
        for port in /sys/class/net/br0/brif/*; do ip link set "${port##*/}" down; done
        pkill -f 'nfqueue[.]py'
    """
    TEAR_DOWN = "ip link del sink0"
    OUTLAST = False


class TapStall(Stall):
    """The same with a virtual card, a macvtap, whose program is stopped and reads nothing.

    The bridge has to know where its address is: what it floods it copies.
    """

    WHERE = "a macvtap whose program is stopped"
    HOLDER = "mvt0"
    LEVEL = "said"
    FREED_BY = "kill -CONT"
    HELD = "ip -s link show mvt0 | awk '/RX:/ { getline; print $2 }'"
    MODULES = "macvtap"
    SET_UP = (
        """
        ip link add mvt0 link br0 address 02:00:00:00:00:09 type macvtap mode bridge
        ip link set mvt0 up txqueuelen 20000
        bridge fdb replace 02:00:00:00:00:09 dev br0 self local
        mknod /dev/tap-mvt0 c $(tr : ' ' < $(echo /sys/class/net/mvt0/tap*/dev))
        setsid /opt/lab/tapreader.py /dev/tap-mvt0 > /run/tapreader 2>&1 &
    """
        + SAYS.format("/run/tapreader", "open")
        + """
        pkill -STOP -x tapreader.py
    """
    )
    RELEASE = "pkill -CONT -x tapreader.py"
    TEAR_DOWN = """
        pkill -KILL -x tapreader.py
        bridge fdb del 02:00:00:00:00:09 dev br0 self local
        ip link del mvt0
        rm -f /dev/tap-mvt0
    """


class DiskStall(Stall):
    """The same with the guest's disk, and blkback in place of netback."""

    NAME = "stall-disk"
    WHERE = "a suspended disk of dm"
    KIND = "blkback-io"
    PLACE = "xen_blkif_disconnect"
    HOLDER = "dm-"
    LEVEL = "device"
    FREED_BY = "dmsetup resume stall"
    MODULES = "dm-mod"
    # Nobody here makes what udev would, hence mknodes.
    SET_UP = (
        """
        truncate -s 64M /run/stall
        losetup /dev/loop1 /run/stall
        echo '0 131072 linear /dev/loop1 0' | dmsetup create stall
        dmsetup mknodes
        losetup --direct-io=on /dev/loop4 /dev/mapper/stall
    """
        + FEW_REQUESTS
    )
    WRITES = "[ $(cat /sys/devices/vbd-{domid}-51712/statistics/wr_req) -gt 0 ]"
    LENT = "grep blk_mq_get_tag /proc/$(pgrep -x {domid}.xvda-0)/stack"
    RELEASE = "dmsetup resume stall"
    TEAR_DOWN = f"""
        {AS_MANY_AS_BEFORE}
        losetup -d /dev/loop4
        dmsetup remove --retry stall
        losetup -d /dev/loop1
        rm -f /run/stall
    """

    HANG: ClassVar = "dmsetup suspend --noflush --nolockfs stall"

    def _lend(self) -> None:
        self._lab.wait_for(self.WRITES.format(domid=self.domid), 90)
        self._lab.run(self.HANG, check=True)
        super()._lend()


class NbdStall(DiskStall):
    """A network disk whose server is stopped; the guest's writes are lost with it."""

    WHERE = "an nbd whose server is stopped"
    HOLDER = "nbd0"
    LEVEL = "data"
    FREED_BY = "pkill -CONT nbd-server"
    MODULES = "nbd"
    # loop4 is what the guest's configuration names
    SET_UP = (
        """
        truncate -s 64M /run/stall
        printf '[generic]\\nunixsock = /run/nbd.sock\\n[stall]\\nexportname = /run/stall\\n' \\
            > /run/nbd.conf
        nbd-server -C /run/nbd.conf -p /run/nbd.pid
        tries=0
        until nbd-client -unix /run/nbd.sock -N stall /dev/nbd0; do
            tries=$((tries + 1))
            [ $tries -lt 20 ]
            sleep 1
        done
        losetup --direct-io=on /dev/loop4 /dev/nbd0
    """
        + FEW_REQUESTS
    )
    HANG = "pkill -STOP nbd-server"
    RELEASE = "pkill -CONT nbd-server"
    TEAR_DOWN = f"""
        {AS_MANY_AS_BEFORE}
        losetup -d /dev/loop4
        nbd-client -d /dev/nbd0
        pkill nbd-server
        rm -f /run/stall /run/nbd.conf
    """


class FrozenStall(DiskStall):
    """A loop device on a file system that is frozen."""

    WHERE = "a loop device on a frozen file system"
    HOLDER = "loop4"
    LEVEL = "said"
    FREED_BY = "fsfreeze --unfreeze /run/fs"
    MODULES = "ext4"
    SET_UP = (
        """
        truncate -s 96M /run/stall
        losetup /dev/loop1 /run/stall
        mkfs.ext4 -q /dev/loop1
        mkdir -p /run/fs
        mount /dev/loop1 /run/fs
        truncate -s 64M /run/fs/disk
        losetup /dev/loop4 /run/fs/disk
    """
        + FEW_REQUESTS
    )
    HANG = "fsfreeze --freeze /run/fs"
    RELEASE = "fsfreeze --unfreeze /run/fs"
    TEAR_DOWN = f"""
        {AS_MANY_AS_BEFORE}
        losetup -d /dev/loop4
        until umount /run/fs; do sleep 1; done
        losetup -d /dev/loop1
        rm -f /run/stall
    """
