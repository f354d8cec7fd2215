# SPDX-License-Identifier: LGPL-2.1-or-later
"""What the tests of xlmt in the lab look at: xenstored's log, the nodes, the hypervisor's list."""

import json

from tests.lab.errors import TripleFault
from tests.lab.vm import Lab
from tests.stack.trace import PARSERS, Request

UP_DEADLINE_S = 240.0  # an HVM guest needs half a minute when nothing else runs


def trace(lab: Lab) -> list[Request]:
    return PARSERS[lab.daemon](lab.trace())


def nodes(lab: Lab) -> set[int]:
    return {int(n) for n in lab.run("xenstore-list /local/domain/0/mtwatch").out.split()}


def states(lab: Lab) -> dict[int, str]:
    document = json.loads(lab.run("xlmt list -o json", check=True).out)
    return {row["domid"]: row["state"] for row in document["domains"]}


def domid_of(lab: Lab, name: str) -> int:
    return int(lab.run(f"xl domid {name}", check=True).out)


def domids(lab: Lab) -> set[int]:
    return {domain.domid for domain in lab.xen_domains()} - {0}


def wait_up(lab: Lab, name: str, times: int = 1) -> None:
    """Until a guest has said so itself, in so many lives of the running test."""
    log = f"/var/log/xen/console/guest-{name}.log"
    wait_for_guest(lab, f"[ $(grep -c 'GUEST UP' {log}) -ge {times} ]", UP_DEADLINE_S)


def wait_for_guest(lab: Lab, condition: str, timeout: float) -> None:
    """Until what a guest is to do has come about. Raises TripleFault when it never will."""
    fell = "xl dmesg | grep 'Triple fault'"
    lab.wait_for(f"{{ {condition}\n}} || {fell}", timeout)
    if said := lab.run(fell).out.strip():
        raise TripleFault(said)


def wait_gone(lab: Lab) -> None:
    """The hypervisor gives a domain's memory back at its leisure."""
    lab.wait_for("[ $(xendoms | wc -l) = 1 ]")


def end_supervisor(lab: Lab) -> None:
    """End the supervisor, which `xlmt create` starts; it would put right what a test looks at."""
    lab.run("pkill -f 'xlmt[. ]supervis'")
    lab.wait_for("! pgrep -f 'xlmt[. ]supervis'")
    lab.run("rm -f /run/xlmt/jobs/*")  # what it was at, no later one is to finish


def leave_nothing(lab: Lab) -> None:
    """Destroy what a test left."""
    end_supervisor(lab)
    lab.run("for d in $(xendoms | cut -d' ' -f1); do [ $d = 0 ] || xlmt destroy $d; done", 120)
    wait_gone(lab)
    lab.run("rm -f /var/log/xen/console/guest-*")  # or the next one of that name seems to be up
    lab.run("xenstore-rm /local/domain/0/mtwatch")
    lab.run("xl dmesg -c > /dev/null")  # what Xen said of these guests
