# SPDX-License-Identifier: LGPL-2.1-or-later
"""What guests cost others that change their devices' states all the time.

`python -m bench.flap [GUESTS] [CHANGES PER SECOND]`, as root; by default 50, and 1 of each.

Vifs of domids that no domain has: netback follows what is written for their frontends, one
transaction for each change, and takes rtnl for those that come and go. Between the changes another
guest is created and destroyed, on a stock kernel, with xen_mtwatch, and with xen_mtwatch and no
limit on callbacks at once, in turn; and without any change beside it. How far netback is behind
when the changes end is how long it takes from then until all its devices have the last state. A
creation fails when libxl has waited ten seconds for a device.
"""

import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench import report, spread
from tests.lab.dmesg import stalls_are_meant
from tests.lab.mtwatch import loaded, wait_status
from tests.lab.vm import Lab

TURNS = 2
MODULE = {"module": [], "all at once": ["max_active=4096"]}
FIRST = 20001
STOP = "/run/flap.stop"  # is there when it is to end
CONFIG = "/etc/xen/demo-pv.cfg"
FLAP = """
import os, sys, time
from pyxs import Client
first, count, rate = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
stop = sys.argv[4]
domids = range(first, first + count)
front = "/local/domain/{}/device/vif/0".format
back = "/local/domain/0/backend/vif/{}/0".format
with Client() as client:
    def write(where, **values):
        for key, value in values.items():
            client.write(f"{where}/{key.replace('_', '-')}".encode(), str(value).encode())
    def state(domid, value):
        write(front(domid), state=value)
    for domid in domids:
        write(front(domid), backend=back(domid), backend_id=0, state=1)
        write(back(domid), frontend=front(domid), frontend_id=domid, online=1, handle=0,
              script="/bin/true", mac="02:00:00:01:%02x:%02x" % divmod(domid % 65536, 256), state=1)
    print("there", flush=True)
    done, began = 0, time.monotonic()
    while not os.path.exists(stop):
        for value in (5, 6, 1):
            for domid in domids:
                state(domid, value)
                done += 1
                time.sleep(max(0, began + done / (rate * count) - time.monotonic()))
    ended = time.monotonic()
    late = list(domids)
    while late and time.monotonic() < ended + 300:
        late = [d for d in late if client.read(f"{back(d)}/state".encode()) != b"2"]
        time.sleep(0.05)
    print(done / (ended - began), time.monotonic() - ended, len(late), flush=True)
    for domid in domids:
        client.delete(back(domid).rpartition("/")[0].encode())
        client.delete(f"/local/domain/{domid}".encode())
"""


def main() -> None:
    guests, rate = ([float(text) for text in sys.argv[1:]] + [50, 1][len(sys.argv) - 1 :])[:2]
    with Lab("c") as lab, stalls_are_meant(lab):
        lab.run("dmesg -n 4; modprobe xen-netback", check=True)
        lab.log_requests(False)
        lab.push("/run/flap.py", FLAP)
        times: dict[str, list[Cycle]] = {side: [] for side in ("calm", "stock", *MODULE)}
        flapped: dict[str, list[tuple[float, float]]] = {side: [] for side in ("stock", *MODULE)}
        cycle(lab)  # the first one finds cold caches
        for _ in range(TURNS):
            times["calm"].append(cycle(lab))
            with flapping(lab, int(guests), rate) as followed:
                times["stock"].append(cycle(lab))
            flapped["stock"] += followed
            for side, words in MODULE.items():
                with loaded(lab, *words), flapping(lab, int(guests), rate) as followed:
                    wait_status(lab, "^module .* partial=0 ", 120)
                    times[side].append(cycle(lab))
                flapped[side] += followed
        kernel = lab.run("uname -r | cut -d. -f1,2", check=True).out.strip()
    for number, operation in enumerate(("create", "destroy")):
        taken = {side: [it[number] for it in cycles] for side, cycles in times.items()}
        report(
            bench=f"flap/{kernel}/{operation}",
            guests=int(guests),
            rounds=TURNS,
            median_s={side: round(statistics.median(all_), 2) for side, all_ in taken.items()},
            spread_s={side: spread(values) for side, values in taken.items()},
            failed={side: sum(it.failed for it in cycles) for side, cycles in times.items()},
        )
    for number, what in enumerate(("changes_per_s", "behind_s")):
        report(
            bench=f"flap/{kernel}/{what}",
            median={
                side: round(statistics.median(pair[number] for pair in pairs), 2)
                for side, pairs in flapped.items()
            },
        )


class Cycle(NamedTuple):
    """The seconds of a creation, failed or not, and of a destruction."""

    create_s: float
    destroy_s: float
    failed: bool


def cycle(lab: Lab) -> Cycle:
    began = time.monotonic()
    failed = lab.run(f"xlmt create {CONFIG}", 180).rc != 0
    created = time.monotonic()
    lab.run("xlmt destroy demo-pv", 180, check=not failed)
    return Cycle(created - began, time.monotonic() - created, failed)


@contextmanager
def flapping(lab: Lab, guests: int, rate: float) -> Iterator[list[tuple[float, float]]]:
    """Changes go on meanwhile; afterwards so many a second, and how long netback was behind."""
    followed: list[tuple[float, float]] = []
    words = f"{FIRST} {guests} {rate} {STOP}"
    lab.run(f"rm -f {STOP}", check=True)
    it = lab.spawn(f"exec /opt/xlmt/bin/python /run/flap.py {words}")
    with ExitStack() as undo:
        undo.callback(lab.wait_for, f"! ls /sys/devices | grep '^vif-{FIRST // 1000}'", 120)
        undo.callback(lab.run, f"touch {STOP}")  # also when the block fails
        lab.wait_for(f"grep there {it.file}", 120)
        time.sleep(5)
        yield followed
        lab.run(f"touch {STOP}", check=True)
        ended = it.wait(400)
        assert ended.rc == 0, ended.out
        per_s, behind, late = map(float, ended.out.split()[-3:])
        assert late == 0, ended.out
        followed.append((per_s, behind))


if __name__ == "__main__":
    main()
