# SPDX-License-Identifier: LGPL-2.1-or-later
"""What doctor says of a host: the verdict, the labels, the document, Nagios's line."""

import json

import pytest

from xlmt.doctor import findings, judge, render
from xlmt.doctor.actions import Action, Level
from xlmt.doctor.causes import Cause, Kind, Verdict
from xlmt.doctor.findings import Finding
from xlmt.doctor.holders import Holder, What
from xlmt.doctor.model import Check, Host, State, Zombie
from xlmt.doctor.traces import Report, Trace
from xlmt.kernel.diagnose import Half, View
from xlmt.model import Thread

XENWATCH = Thread("xenwatch", 57, "S")
EXPOSED = View(release="6.12", threads=(XENWATCH,))
HEALTHY = EXPOSED._replace(half=Half.BUILTIN)
STALLED = EXPOSED._replace(threads=(Thread("xenwatch", 57, "D", 6.0),), names={3: "web1\x1b[2J"})
TRACE = Trace("xenwatch", ("kthread_stop", "xenvif_free"), Report.HUNG, 57, 3600)
STALL = Finding(
    TRACE,
    Cause(Kind.NETBACK_INFLIGHT, Verdict.STALL, "xenvif_free"),
    3,
    "by its thread vif3.0-q0-deall",
    "vif-3-0",
    (Holder(What.QUEUE, "sink0", "netem", packets=37, on_path=True),),
    (Action(Level.PACKETS, (("ip", "link", "set", "sink0", "down"),)),),
)
XENBUS = Finding(TRACE._replace(task="xenbus"), Cause(Kind.XENBUS_TRANSACTION, Verdict.STALL))
OK = Check("nodes", State.OK, "every guest has its node")
BAD = Check("supervisor", State.PROBLEM, "no supervisor is running", ("xlmt supervise",))
LEFT_OUT = Check("interposer", State.SKIPPED, "no answer within 5 s")
SILENT = Check("xenstored", State.PROBLEM, "xenstored does not answer")
ZOMBIE = Zombie(9, 524288, ("vif-9-0",))
AT = 1_796_000_400.0


def labels(said: str) -> list[str]:
    return [line.split()[0] for line in said.splitlines() if line]


def test_a_stall_is_said_with_its_guest_and_what_to_type() -> None:
    said = render.host_text(Host(STALLED, (STALL,), (OK,), at=AT))
    assert "\x1b" not in said
    wanted = "xenwatch task state since guest status holder action action see ok"
    assert labels(said) == wanted.split()
    for line in (
        "since   at least 60 min 0 s, since 2026-11-30T00:00:00Z",
        "guest   web1\\x1b[2J (domain 3), vif-3-0, by its thread vif3.0-q0-deall",
        "holder  37 packets are in the queue (netem) of sink0, which is on its way",
        "action  ip link set sink0 down   # packets of other guests are lost, too",
        "action  xlmt release   # does these one by one, and looks whether it goes on",
        "see     XLMT-1001 in xlmt-doctor(8)",
    ):
        assert line in said.splitlines()


@pytest.mark.parametrize(
    ("levels", "release"),
    [
        ([Level.NOTHING, Level.SAID], ["xlmt release"]),
        ([Level.PACKETS, Level.DEVICE], ["xlmt release"]),
        ([Level.DEVICE, Level.DATA], ["xlmt release --most device"]),
        ([Level.SAID], []),
    ],
)
def test_what_carries_the_actions_out_does_one_of_them(
    levels: list[Level], release: list[str]
) -> None:
    actions = tuple(Action(level, (("true", "x"),)) for level in levels)
    said = render.host_text(Host(STALLED, (STALL._replace(actions=actions),)))
    lines = [line for line in said.splitlines() if "xlmt release" in line]
    assert [line.split("   #")[0].removeprefix("action  ") for line in lines] == release


def test_a_stalled_xenwatch_is_not_everybody_s_trouble_where_the_kernel_half_is_at_work() -> None:
    nobody = "no guest can be created or destroyed"
    stalled = Host(STALLED, (STALL, XENBUS))
    of_xenwatch, of_xenbus = json.loads(render.host_json(stalled))["findings"]
    assert nobody in of_xenwatch["status"]
    protected = stalled._replace(view=STALLED._replace(half=Half.BUILTIN))
    of_xenwatch, of_xenbus = json.loads(render.host_json(protected))["findings"]
    assert nobody not in of_xenwatch["status"]
    assert "guests without a thread of their own wait for it" in of_xenwatch["status"]
    assert nobody in of_xenbus["status"]


@pytest.mark.parametrize(
    ("task", "frame", "number", "action", "means"),
    [
        (
            "xen-mtwatch-users",
            "watch_fired",
            "XLMT-1015",
            "fuser -v /dev/xen/xenbus",
            "; programs that watch by /dev/xen/xenbus wait, guests do not",
        ),
        (
            "xen-mtwatch-0",
            "blkfront_connect",
            "XLMT-1016",
            "xl block-list 0",
            "; guests whose bootloader needs a disk in domain 0 wait, others do not",
        ),
    ],
)
def test_a_thread_that_serves_no_guest_is_told_as_what_it_is(
    task: str, frame: str, number: str, action: str, means: str
) -> None:
    trace = Trace(task, ("schedule", frame, "kthread"), Report.HUNG, 9, 30)
    (finding,) = findings.of_traces([trace])
    host = Host(EXPOSED, (finding,))
    said = render.host_text(host)
    assert "guest  " not in said
    assert f"see     {number} in xlmt-doctor(8)" in said
    assert f"action  {action}" in said
    assert json.loads(render.host_json(host))["findings"][0]["status"].endswith(means)


@pytest.mark.parametrize("only_wrong", [False, True])
def test_a_host_that_is_well_is_one_line_or_none(only_wrong: bool) -> None:
    said = render.host_text(Host(HEALTHY, (), (OK,)), only_wrong=only_wrong)
    assert len(said.splitlines()) == (not only_wrong)


def test_what_was_not_looked_at_is_said() -> None:
    said = render.host_text(Host(HEALTHY, (), (OK, LEFT_OUT)))
    assert "skipped interposer: no answer within 5 s" in said.splitlines()


def test_a_check_that_found_something_says_what_to_type() -> None:
    host = Host(HEALTHY, (), (OK, BAD))
    wanted = ["check", "status", "action", "see"]
    assert labels(render.host_text(host))[1:] == [*wanted, "ok"]
    assert labels(render.host_text(host, only_wrong=True))[1:] == wanted
    assert judge.troubles(host)


@pytest.mark.parametrize(
    ("zombie", "why"),
    [
        (ZOMBIE, "dom0's kernel has devices of it"),
        (ZOMBIE._replace(backends=(), processes=("qemu (pid 7)",)), "has it mapped"),
        (ZOMBIE._replace(backends=()), "something in dom0 has pages of it"),
    ],
)
def test_a_zombie_is_told_with_its_memory_and_what_keeps_it(zombie: Zombie, why: str) -> None:
    said = render.host_text(Host(HEALTHY, zombies=(zombie,)))
    assert "domain 9 is destroyed and still has 512 MiB of memory" in said
    assert why in said


WORKER = Finding(TRACE._replace(task="1.xvda-0"), Cause(Kind.BLKBACK_IO, Verdict.WILL_STALL))


@pytest.mark.parametrize(
    ("host", "verdict", "nagios"),
    [
        (Host(HEALTHY), "healthy", 0),
        (Host(EXPOSED), "exposed", 1),
        (Host(HEALTHY, (), (BAD,)), "healthy", 1),
        (Host(HEALTHY, (), (LEFT_OUT,)), "healthy", 0),
        (Host(HEALTHY, zombies=(ZOMBIE,)), "healthy", 1),
        (Host(HEALTHY, (WORKER,)), "healthy", 1),
        (Host(HEALTHY, (), (SILENT,)), "silent", 2),
        (Host(STALLED, (STALL,)), "stalled", 2),
        (Host(EXPOSED, (XENBUS,)), "stalled", 2),
        (Host(HEALTHY._replace(xenbus=False)), "gone", 2),
        (Host(View(threads=())), "gone", 2),
        (Host(View(threads=None)), "unknown", 3),
    ],
)
def test_the_verdict_is_the_worst(host: Host, verdict: str, nagios: int) -> None:
    assert judge.verdict(host) == verdict
    status, line = render.nagios(host)
    assert (status, len(line.splitlines())) == (nagios, 1)
    assert all(f.trace.task in line for f in host.findings)
    assert "|" not in line  # what follows would be numbers for a graph
    nothing_else = not render.host_text(host, only_wrong=True)
    assert nothing_else == (nagios == 0)


def test_xenbus_that_is_gone_is_said_as_such() -> None:
    assert judge.headline(Host(HEALTHY._replace(xenbus=False))).startswith("xenbus has crashed")


def test_a_document_has_what_the_design_says() -> None:
    host = Host(STALLED, (STALL,), (OK, BAD), (ZOMBIE,), AT)
    told = json.loads(render.host_json(host))
    assert told["verdict"] == "stalled"
    assert told["xenwatch"]["cause"] == {
        "kind": "netback-inflight",
        "domid": 3,
        "device": "vif-3-0",
        "frames": ["kthread_stop", "xenvif_free"],
    }
    assert told["xenwatch"]["stalled_s"] == 3600
    assert [zombie["domid"] for zombie in told["zombies"]] == [9]
    assert told["advice"] == ["ip link set sink0 down", "xlmt supervise"]
    assert told["threads"] == told["blocked"] == []
    (finding,) = told["findings"]
    assert finding["since"] == "2026-11-30T00:00:00Z"
    assert finding["levels"] == ["packets"]
    assert finding["holders"][0]["packets"] == 37
    assert [check["state"] for check in told["checks"]] == ["ok", "problem"]


def test_who_waits_for_xenwatch_is_listed() -> None:
    waits = Finding(TRACE._replace(task="xl"), Cause(Kind.XENWATCH_MUTEX, Verdict.COLLATERAL))
    told = json.loads(render.host_json(Host(STALLED, (STALL, waits))))
    assert [task["task"] for task in told["blocked"]] == ["xl"]


def test_traces_and_findings_are_told_alike() -> None:
    worker = Trace("1.xvda-0", ("io_schedule", "xen_blkif_schedule", "kthread"), Report.HUNG, 8, 30)
    found = findings.of_traces([worker])
    traces = json.loads(render.stack_json(found))["traces"]
    assert [(t["task"], t["kind"], t["verdict"], t["domid"]) for t in traces] == [
        ("1.xvda-0", "blkback-io", "will-stall", 1)
    ]
    assert json.loads(render.host_json(Host(View(threads=()), found)))["findings"] == traces


@pytest.mark.parametrize(
    ("holder", "said"),
    [
        (
            Holder(What.QUEUE, "$(x)", "fq", packets=1, pid=812),
            "a packet is in the queue (fq) of $(x) in the network namespace of process 812",
        ),
        (Holder(What.CARD, "eth0", "card", bytes=1514), "1514 bytes are with the card eth0"),
        (
            Holder(What.PROGRAM, "nfqueue 7", "port id 42", packets=9),
            "9 packets are in nfqueue 7: its program (port id 42) has not decided about them",
        ),
        (
            Holder(What.TAP, "mvt0", "qemu", on_path=True, reader=77),
            "qemu (pid 77) reads nothing from mvt0, which is on its way, and may have packets "
            "there",
        ),
        (
            Holder(What.DISK, "dm-0", "dm vg-web", requests=4, state="suspended", on_path=True),
            "dm-0 (dm vg-web) is suspended, 4 requests are in flight, which is on its way",
        ),
        (Holder(What.DISK, "sda", ""), "sda does not answer"),
    ],
)
def test_a_holder_is_a_clause(holder: Holder, said: str) -> None:
    assert render.holder_text(holder) == said
